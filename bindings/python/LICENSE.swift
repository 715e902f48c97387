The shared library in the wheels of libdbpool also holds what its compiler, Swift 6.3 (https://www.swift.org), compiles
into every program: code of the Swift standard library and of its Synchronization module, Copyright 2014-2026 Apple Inc.
and the Swift project authors, under the Apache License 2.0 with the Runtime Library Exception
(https://www.swift.org/LICENSE.txt). The exception permits redistribution without attribution; it is given all the same.

libpq is no part of it: the library uses that of the system.
