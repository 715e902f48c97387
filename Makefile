# libdbpool. `make help` lists what there is.

# The header is the one place that knows the version.
version_part = $(shell sed -n 's/^.define POOL_VERSION_$(1) \([0-9]*\)$$/\1/p' include/dbpool.h)
MAJOR := $(call version_part,MAJOR)
VERSION := $(MAJOR).$(call version_part,MINOR).$(call version_part,PATCH)

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=
# Everything made goes below this folder; another one keeps variants apart (BUILD=build/tsan SANITIZE=thread).
BUILD ?= build
# Empty, `thread` or `address`: an instrumented library, linked by the toolchain's clang.
SANITIZE ?=
# `dlopen`: a library that is not linked with libpq and looks for it when the first pool wants it, as that of the wheel.
LIBPQ ?=
PYTHON ?= python3
# For test-abi, test-valgrind, test-tsan and test-asan: the topics of Tests/abi to run; empty = all, which takes half an hour.
TOPICS ?=
# Seconds that each part of the tests may take.
PART_TIMEOUT ?= 300

SONAME := libdbpool.so.$(MAJOR)
LIBRARY := $(BUILD)/lib/libdbpool.so.$(VERSION)
HEADERS := dbpool.h dbpool.hpp
PRODUCTS := $(BUILD)/lib/libdbpool.so $(HEADERS:%=$(BUILD)/include/%) $(BUILD)/lib/pkgconfig/dbpool.pc

SWIFT_SOURCES := $(sort $(wildcard Sources/PoolCore/*.swift Sources/PoolRuntime/*.swift Sources/Libpq/*.swift \
  Sources/DBPool/*.swift))
SHIM_SOURCES := $(sort $(wildcard Sources/CPoolShims/*.c))
IMPORTED_HEADERS := $(wildcard include/*.h include/module.modulemap Sources/CPoolShims/include/* Sources/CLibpq/*)
OBJECTS := $(BUILD)/obj/DBPool.o $(SHIM_SOURCES:Sources/CPoolShims/%.c=$(BUILD)/obj/%.o)

LIBPQ_CFLAGS = $(shell pkg-config --cflags libpq)
BINDING := $(if $(filter dlopen,$(LIBPQ)),-DPOOL_LIBPQ_BY_DLOPEN)
LIBPQ_LIBS = $(if $(BINDING),,$(shell pkg-config --libs libpq))
SWIFT_TOOLCHAIN = $(dir $(realpath $(shell command -v swiftc)))
CC_PLAIN := $(if $(filter default,$(origin CC)),cc,$(CC))
COMPILER = $(if $(SANITIZE),$(SWIFT_TOOLCHAIN)clang,$(CC_PLAIN))
SANITIZE_FLAG = $(addprefix -sanitize=,$(SANITIZE))

WARNINGS := -Wall -Wextra -pedantic -Werror
SHIM_FLAGS = -std=c11 -O2 -g -fPIC -fvisibility=hidden -fstack-protector-strong -ffunction-sections -fdata-sections \
  -ffile-prefix-map="$(CURDIR)"=. -Iinclude -ISources/CPoolShims/include $(LIBPQ_CFLAGS) -D_FORTIFY_SOURCE=2 \
  $(WARNINGS) $(CPPFLAGS) $(CFLAGS) $(BINDING) $(SANITIZE_FLAG:-%=-f%) $(if $(findstring address,$(SANITIZE)),-fsanitize=undefined)
SWIFT_FLAGS = -O -wmo -g -swift-version 6 -parse-as-library -module-name DBPool \
  -enable-experimental-feature Embedded -warnings-as-errors -file-prefix-map "$(CURDIR)=." -Xcc -fPIC \
  -Xcc -ffunction-sections -Iinclude -ISources/CPoolShims/include -ISources/CLibpq \
  $(addprefix -Xcc ,$(LIBPQ_CFLAGS) $(BINDING)) \
  -module-cache-path $(BUILD)/obj/modules -Xfrontend -no-clang-module-breadcrumbs $(SANITIZE_FLAG)
# A sanitizer's own functions come from the program that loads the library.
LINK_FLAGS = -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(BUILD)/obj/dbpool.map -Wl,--gc-sections -Wl,--as-needed \
  -Wl,-z,relro,-z,now,-z,nodelete,-z,noexecstack $(if $(SANITIZE),$(SANITIZE_FLAG:-%=-f%),-Wl,-z,defs) \
  -Wl,--build-id=sha1 -Wl,-O1 $(LDFLAGS)

WITH_POSTGRES := .ci/with-postgres
VENV := $(BUILD)/venv

# Recipes stop at the first error and leave no half-made file.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

# Root in somebody else's tree: the work is done and then belongs to the owner of the tree, who can remove it.
ifeq ($(shell test "$$(id -u)" = 0 && test "$$(stat -c %u .)" != 0 && echo $(DBPOOL_HAND_OVER)yes),yes)

.PHONY: all $(MAKECMDGOALS)
all $(MAKECMDGOALS): hand-over
	@:

.PHONY: hand-over
hand-over:
	@DBPOOL_HAND_OVER=no .ci/hand-over $(MAKE) --no-print-directory $(MAKECMDGOALS)

else

.PHONY: all
all: $(PRODUCTS) ## Build the library, its links, header and pkg-config file below build/ (the default)

# ------------------------------------------------------------------------------------------------------- building

# A second user gets a sentence instead of the linker's "permission denied".
$(BUILD)/.writable: FORCE
	@if [ -e '$(BUILD)' ] && [ ! -w '$(BUILD)' ]; then \
	  echo "$(BUILD)/ belongs to $$(stat -c %U '$(BUILD)'): run 'make clean' as that user, or give a folder of yours" \
	    "(make BUILD=...)." >&2; exit 1; fi
	@mkdir -p $(BUILD)/obj $(BUILD)/lib/pkgconfig $(BUILD)/include
	@[ -e $@ ] || touch $@

# Rewritten only when it differs: a source that is gone, or another compiler or flag, rebuilds what depends on it.
$(BUILD)/obj/recipe: FORCE | $(BUILD)/.writable
	@printf '%s\n' '$(SWIFT_SOURCES)' '$(SWIFT_FLAGS)' '$(COMPILER) $(SHIM_FLAGS)' \
	  '$(LINK_FLAGS) $(LIBPQ_LIBS)' > $@.$$PPID
	@cmp -s $@.$$PPID $@ && rm $@.$$PPID || mv $@.$$PPID $@

$(BUILD)/obj/DBPool.o: $(SWIFT_SOURCES) $(IMPORTED_HEADERS) $(BUILD)/obj/recipe
	.ci/require-swift
	swiftc $(SWIFT_FLAGS) -c $(SWIFT_SOURCES) -o $@
	$(if $(filter thread,$(SANITIZE)),objcopy --redefine-sym __tsan_external_write=pool_sanitizer_formal_access $@)
	objcopy --remove-section=.swift_modhash $@ # hashes the command line: another folder would give other bytes
	@touch $@ # the compiler leaves the time of a file that would not change

$(BUILD)/obj/%.o: Sources/CPoolShims/%.c $(IMPORTED_HEADERS) $(BUILD)/obj/recipe
	$(COMPILER) $(SHIM_FLAGS) -c $< -o $@

$(BUILD)/obj/dbpool.map: include/dbpool.h .ci/version-script .ci/declared-functions | $(BUILD)/.writable
	CC='$(CC_PLAIN)' .ci/version-script $< > $@

$(LIBRARY): $(OBJECTS) $(BUILD)/obj/dbpool.map
	$(COMPILER) $(LINK_FLAGS) $(OBJECTS) $(LIBPQ_LIBS) -lm -o $@

$(BUILD)/lib/$(SONAME): $(LIBRARY)
	ln -sf $(<F) $@

$(BUILD)/lib/libdbpool.so: $(BUILD)/lib/$(SONAME)
	ln -sf $(<F) $@

$(BUILD)/include/%: include/% | $(BUILD)/.writable
	install -m 644 $< $@

# The built tree is its own prefix, wherever it lies.
$(BUILD)/lib/pkgconfig/dbpool.pc: .ci/dbpool.pc.in include/dbpool.h | $(BUILD)/.writable
	sed -e 's|@PREFIX@|$${pcfiledir}/../..|' -e 's|@LIBDIR@|$${prefix}/lib|' -e 's|@INCLUDEDIR@|$${prefix}/include|' \
	  -e 's|@VERSION@|$(VERSION)|' $< > $@

.PHONY: man
man: $(BUILD)/man/made ## Build the manual pages below build/man, from the header and README.md

$(BUILD)/man/made: $(wildcard docs/man/*) include/dbpool.h README.md docs/symbols-in-versions debian/changelog | $(BUILD)/.writable
	$(PYTHON) docs/man/generate $(@D)
	@touch $@

# ----------------------------------------------------------------------------------------------------- installing

.PHONY: install
install: all man ## Install below DESTDIR/PREFIX (default /usr/local; LIBDIR, INCLUDEDIR and MANDIR may differ)
	install -d -m 755 '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(INCLUDEDIR)' '$(DESTDIR)$(MANDIR)'/man{3,7}
	install -m 644 $(LIBRARY) '$(DESTDIR)$(LIBDIR)'
	ln -sf $(notdir $(LIBRARY)) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libdbpool.so'
	install -m 644 $(HEADERS:%=include/%) '$(DESTDIR)$(INCLUDEDIR)'
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	  -e 's|@VERSION@|$(VERSION)|' .ci/dbpool.pc.in > '$(DESTDIR)$(LIBDIR)/pkgconfig/dbpool.pc'
	chmod 644 '$(DESTDIR)$(LIBDIR)/pkgconfig/dbpool.pc'
	for section in 3 7; do \
	  find $(BUILD)/man/man$$section -type f -exec install -m 644 -t '$(DESTDIR)$(MANDIR)'/man$$section {} +; \
	  find $(BUILD)/man/man$$section -type l -exec cp -P -t '$(DESTDIR)$(MANDIR)'/man$$section {} +; done
	@[ -n '$(DESTDIR)' ] || echo "Installed. If the loader does not find $(SONAME), run ldconfig as root."

.PHONY: uninstall
uninstall: ## Remove what install put there (same PREFIX, DESTDIR, LIBDIR, INCLUDEDIR, MANDIR)
	rm -f '$(DESTDIR)$(LIBDIR)'/libdbpool.so '$(DESTDIR)$(LIBDIR)/$(SONAME)' \
	  '$(DESTDIR)$(LIBDIR)/$(notdir $(LIBRARY))' '$(DESTDIR)$(LIBDIR)/pkgconfig/dbpool.pc' \
	  $(HEADERS:%='$(DESTDIR)$(INCLUDEDIR)'/%) '$(DESTDIR)$(MANDIR)/man7/dbpool.7'
	for name in $$(.ci/declared-functions include/dbpool.h); do rm -f '$(DESTDIR)$(MANDIR)'/man3/$$name.3; done

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf $(BUILD) .build

# -------------------------------------------------------------------------------------------------------- testing
# Each part can be run alone; it starts a throw-away server for itself.

# In this order: what overlaps with the compiler is not about milliseconds.
TEST_PARTS := test-swift test-build test-abi-promise test-man test-core test-readme test-engine-core test-python test-cxx test-abi \
  test-django-core test-python-debian test-faults-quick test-chaos
SWIFT_SCRATCH := --scratch-path $(BUILD)/swiftpm
PYTEST_FLAGS := -q -p no:cacheprovider
# What is done two hundred times is done forty times; test-exits does it all.
SCALE ?= 5
# The programs find the built library; nothing is written beside the sources.
RUN_ENVIRONMENT = env LD_LIBRARY_PATH='$(abspath $(BUILD))/lib' DBPOOL_LIBRARY='$(abspath $(BUILD))/lib/$(SONAME)' \
  PYTHONPATH='$(CURDIR)/bindings/python' PYTHONDONTWRITEBYTECODE=1 SWIFT_BACKTRACE=enable=no

.PHONY: demo
demo: ## Show the pool at work: C and Python programs on a throw-away PostgreSQL
	@.ci/setup build postgres python
	@$(MAKE) --no-print-directory all
	@$(RUN_ENVIRONMENT) examples/demo

.PHONY: test
test: ## Run all tests; installs what they need from Debian; ends with the line `N passed, M failed`
	@.ci/setup build postgres python django man
	@.ci/require-swift
	@$(MAKE) --no-print-directory all
	@.ci/venv $(PYTHON) $(VENV)
	@.ci/venv /usr/bin/python3 $(VENV)-debian
	@BUILD='$(BUILD)' PYTHON='$(PYTHON)' .ci/django-venvs $(CORE_COMBINATIONS)
	@MAKE='$(MAKE)' PART_TIMEOUT=$(PART_TIMEOUT) $(WITH_POSTGRES) .ci/run-tests $(TEST_PARTS)

.PHONY: test-build
test-build: all ## Check the built library: symbols, linkage, size, header, pkg-config, install
	@BUILD='$(BUILD)' Tests/build/run

.PHONY: test-abi-promise
test-abi-promise: all ## Check that the header keeps what those of the releases have promised
	@BUILD='$(BUILD)' Tests/abi-promise/run

.PHONY: test-man
test-man: man ## Check the manual pages: complete, without warnings, in step with the header
	@.ci/setup man
	@BUILD='$(BUILD)' PYTHON='$(PYTHON)' Tests/man/run

.PHONY: test-swift
test-swift: ## Test the Swift modules (swift test)
	$(WITH_POSTGRES) $(RUN_ENVIRONMENT) swift test $(SWIFT_SCRATCH)

.PHONY: test-core
test-core: ## Simulate the state machine with random events
	@Tests/mutants/run core

.PHONY: test-mutants
test-mutants: ## Plant faults in the state machine, one at a time: the simulation must catch each
	@Tests/mutants/run

.PHONY: test-model
test-model: ## Check a model of the hand-over in every state with spin; planted faults must be found
	@.ci/setup build model
	@Tests/model/run

.PHONY: test-abi
test-abi: all ## Test the library from C programs (LONG=1: the long tests too; TOPICS='fork exit': some)
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) Tests/abi/run $(if $(LONG),--long) $(TOPICS)

.PHONY: test-cxx
test-cxx: all ## Test the C++ header with g++ and the toolchain's clang++
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) BUILD='$(BUILD)' CLANGXX='$(SWIFT_TOOLCHAIN)clang++' Tests/cxx/run

.PHONY: test-python
test-python: all ## Test the Python binding with the python3 on PATH
	@.ci/venv $(PYTHON) $(VENV)
	$(WITH_POSTGRES) $(RUN_ENVIRONMENT) DBPOOL_TEST_SCALE=$(SCALE) $(VENV)/bin/python -m pytest $(PYTEST_FLAGS) \
	  --ignore=bindings/python/tests/django bindings/python/tests

.PHONY: test-python-debian
test-python-debian: all ## Test the Python binding with Debian's /usr/bin/python3
	@.ci/venv /usr/bin/python3 $(VENV)-debian
	$(WITH_POSTGRES) $(RUN_ENVIRONMENT) DBPOOL_TEST_SCALE=$(SCALE) $(VENV)-debian/bin/python -m pytest $(PYTEST_FLAGS) \
	  --ignore=bindings/python/tests/django bindings/python/tests

.PHONY: test-exits
test-exits: all ## End interpreters at bad moments, hundreds of times, on each Python
	@.ci/venv $(PYTHON) $(VENV)
	@.ci/venv /usr/bin/python3 $(VENV)-debian
	@for python in $(VENV) $(VENV)-debian; do $(WITH_POSTGRES) $(RUN_ENVIRONMENT) $$python/bin/python -m pytest \
	  $(PYTEST_FLAGS) -k 'hundred_exits or fifty_exits or forty_exits' bindings/python/tests/test_process.py \
	  bindings/python/tests/test_sessions_process.py; done

# For test-engine: the combinations of Django and driver to try, of `.ci/django-venvs --list`; empty = all.
COMBINATIONS ?=
# Those of `make test`.
CORE_COMBINATIONS := 52-psycopg2 52-psycopg debian-32

.PHONY: test-engine-core
test-engine-core: ## Test the Django engine with each driver and Debian's Django
	@$(MAKE) --no-print-directory test-engine COMBINATIONS='$(CORE_COMBINATIONS)'

.PHONY: test-engine
test-engine: all ## Test the Django engine and the psycopg2 pools with each Django, driver and libpq
	@BUILD='$(BUILD)' PYTHON='$(PYTHON)' .ci/django-venvs $(COMBINATIONS)
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) BUILD='$(BUILD)' Tests/django/run-engine $(COMBINATIONS)

.PHONY: test-django-core
test-django-core: all ## Run the core of Django's own database tests on the engine
	@BUILD='$(BUILD)' PYTHON='$(PYTHON)' .ci/django-venvs 52-psycopg2 52-psycopg
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) BUILD='$(BUILD)' Tests/django/run-suite core

# `ours`: Django's own engine runs only what did not pass on ours.
SUITE ?= all

.PHONY: test-django
test-django: all ## Run all of Django's own database tests on its engine and on ours, and compare
	@BUILD='$(BUILD)' PYTHON='$(PYTHON)' .ci/django-venvs 52-psycopg2 52-psycopg
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) BUILD='$(BUILD)' Tests/django/run-suite $(SUITE)

.PHONY: test-django-shop
test-django-shop: all ## Run the Django shop under gunicorn and load, its server restarted meanwhile
	@$(RUN_ENVIRONMENT) Tests/django_shop/run

.PHONY: test-postgis
test-postgis: all ## Test geometry through the pooled engine; installs PostGIS and GDAL from Debian
	@$(RUN_ENVIRONMENT) Tests/postgis/run

.PHONY: test-examples
test-examples: all ## Compile and run every program of examples/
	@.ci/setup build postgres python
	@BUILD='$(BUILD)' PYTHON='$(PYTHON)' $(WITH_POSTGRES) Tests/examples/run

.PHONY: test-readme
test-readme: all ## Run the examples of the README
	@.ci/venv $(PYTHON) $(VENV)
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) PATH="$(abspath $(VENV))/bin:$$PATH" Tests/readme/run

.PHONY: test-valgrind
test-valgrind: all ## Run the C tests under valgrind: no error, no byte definitely lost
	@.ci/setup build postgres valgrind
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) Tests/abi/run --valgrind $(TOPICS)

# The toolchain's sanitizer wants its libdispatch, also in a program that has none.
TSAN_CC = $(SWIFT_TOOLCHAIN)clang -fsanitize=thread -rdynamic -L$(SWIFT_TOOLCHAIN)../lib/swift/linux -ldispatch \
  -lBlocksRuntime -Wl,-rpath,$(SWIFT_TOOLCHAIN)../lib/swift/linux

.PHONY: test-tsan
test-tsan: ## Run the C tests and the Swift tests with the thread sanitizer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan SANITIZE=thread all
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) BUILD=$(BUILD)/tsan LD_LIBRARY_PATH='$(abspath $(BUILD))/tsan/lib' \
	  CC='$(TSAN_CC)' Tests/abi/run --tsan $(TOPICS)
	$(WITH_POSTGRES) $(RUN_ENVIRONMENT) swift test --sanitize=thread --scratch-path $(BUILD)/swiftpm-tsan \
	  --skip PoolCoreTests # the state machine has no threads

# Debian's linkers have no quarrel with the sanitizer's list of symbols; gold, the toolchain's choice, has.
ASAN_CC = $(SWIFT_TOOLCHAIN)clang -fsanitize=address,undefined -fno-omit-frame-pointer -fuse-ld=bfd
runtime_of = $(shell ls $(SWIFT_TOOLCHAIN)../lib/clang/*/lib/linux/libclang_rt.$(1)-$(shell uname -m).so | head -n 1)
# The interpreter keeps memory until its end by design, so leaks are looked for in the C tests only.
ASAN_PYTHON = DBPOOL_LIBRARY='$(abspath $(BUILD))/asan/lib/$(SONAME)' DBPOOL_TEST_SCALE=$(SCALE) \
  ASAN_OPTIONS=detect_leaks=0:exitcode=66 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc
.PHONY: test-asan
test-asan: test-asan-abi test-asan-python ## Run the C and Python tests with the address sanitizer (TOPICS: of the C tests)

.PHONY: library-asan
library-asan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan SANITIZE=address all

.PHONY: test-asan-abi
test-asan-abi: library-asan
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) BUILD=$(BUILD)/asan LD_LIBRARY_PATH='$(abspath $(BUILD))/asan/lib' \
	  CC='$(ASAN_CC)' Tests/abi/run --asan $(TOPICS)

.PHONY: test-asan-python
test-asan-python: library-asan
	@.ci/venv $(PYTHON) $(VENV)
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) $(ASAN_PYTHON) LD_PRELOAD='$(call runtime_of,asan)' $(VENV)/bin/python -m pytest \
	  $(PYTEST_FLAGS) --ignore=bindings/python/tests/django bindings/python/tests

# The interpreter is not instrumented, so what it does itself is not looked at; its tests that fork or end it stay out.
SWIFT_RUNTIME = $(SWIFT_TOOLCHAIN)../lib/swift/linux
TSAN_PYTHON = DBPOOL_LIBRARY='$(abspath $(BUILD))/tsan/lib/$(SONAME)' DBPOOL_TEST_SCALE=$(SCALE) PYTHONMALLOC=malloc \
  TSAN_OPTIONS=exitcode=66:ignore_noninstrumented_modules=1 \
  LD_PRELOAD='$(call runtime_of,tsan):$(SWIFT_RUNTIME)/libdispatch.so:$(SWIFT_RUNTIME)/libBlocksRuntime.so'
TSAN_PYTHON_TESTS = $(addprefix bindings/python/tests/,test_pool.py test_waiting.py test_hosted.py)

.PHONY: test-tsan-python
test-tsan-python: ## Run the threaded Python tests with the thread sanitizer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan SANITIZE=thread all
	@.ci/venv $(PYTHON) $(VENV)
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) $(TSAN_PYTHON) $(VENV)/bin/python -m pytest $(PYTEST_FLAGS) -k 'thread or wait' \
	  $(TSAN_PYTHON_TESTS)

# For fuzz: how long, in all.
FUZZ_SECONDS ?= 600

.PHONY: fuzz
fuzz: fuzz-objects ## Fuzz the calls and the conninfo for FUZZ_SECONDS (600)
	@CC='$(SWIFT_TOOLCHAIN)clang' BUILD=$(BUILD)/fuzz Tests/fuzz/run $(FUZZ_SECONDS)

.PHONY: test-fuzz
test-fuzz: fuzz-objects ## Replay the corpus of the fuzzers, and fuzz for a moment
	@CC='$(SWIFT_TOOLCHAIN)clang' BUILD=$(BUILD)/fuzz Tests/fuzz/run --replay 20

.PHONY: fuzz-objects
fuzz-objects:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz SANITIZE=fuzzer,address objects

.PHONY: objects
objects: $(OBJECTS)

# `--quick`: the first calls of each function and then some.
FAILING ?=

.PHONY: test-failing
test-failing: all ## Make each call of libpq, sockets, threads and memory fail in turn (FAILING=--quick: some)
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) Tests/failing/run $(FAILING)

# For test-faults: options of the fault program, such as FAULTS='--only F01,F05 --repeat 3'.
FAULTS ?=

.PHONY: test-faults
test-faults: all ## Try every fault of Tests/faults on the pools (FAULTS='--only F01 --repeat 3')
	@.ci/setup build postgres python faults
	@.ci/venv $(PYTHON) $(VENV)
	@$(RUN_ENVIRONMENT) BUILD='$(BUILD)' $(VENV)/bin/python Tests/faults/run $(FAULTS)

.PHONY: test-faults-quick
test-faults-quick: all
	@.ci/venv $(PYTHON) $(VENV)
	@$(RUN_ENVIRONMENT) BUILD='$(BUILD)' $(VENV)/bin/python Tests/faults/run --quick --no-skips --settle 1

.PHONY: test-chaos
test-chaos: all ## Ask all pools for 20 seconds while everything happens to the server: no wrong answer (SEED=n)
	@.ci/venv $(PYTHON) $(VENV)
	@$(RUN_ENVIRONMENT) BUILD='$(BUILD)' Tests/chaos/run 20 $(SEED)

.PHONY: soak
soak: all ## The same for an hour (SOAK_SECONDS): memory, threads and descriptors stay flat after ten minutes
	@.ci/venv $(PYTHON) $(VENV)
	@$(RUN_ENVIRONMENT) BUILD='$(BUILD)' Tests/chaos/run $(or $(SOAK_SECONDS),3600) $(SEED)

.PHONY: test-forks
test-forks: all ## Fork in all the ways of programs, under load (LONG=1: 10,000 times)
	@.ci/venv $(PYTHON) $(VENV)
	@$(WITH_POSTGRES) $(RUN_ENVIRONMENT) BUILD='$(BUILD)' Tests/forks/run $(if $(LONG),--long)

.PHONY: wheel
wheel: ## Build the Python wheel, with a library inside that finds libpq by itself, and the sdist, in build/wheel/dist
	@.ci/setup build python
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/wheel LIBPQ=dlopen all
	@.ci/venv $(PYTHON) $(VENV)-wheel .ci/requirements-wheel.txt
	@PATH="$(abspath $(VENV))-wheel/bin:$$PATH" .ci/wheel $(BUILD)/wheel/lib/$(SONAME) $(BUILD)/wheel/dist

# The C tests to which it makes a difference when libpq is loaded.
WHEEL_TOPICS := lifecycle fork exit plugin

.PHONY: test-wheel
test-wheel: wheel all ## Install the wheel and the sdist in fresh environments, use them, with libpq and without
	@.ci/setup build postgres python
	@.ci/venv $(PYTHON) $(VENV)
	@BUILD='$(BUILD)/wheel' $(WITH_POSTGRES) Tests/abi/run $(WHEEL_TOPICS)
	@BUILD='$(abspath $(BUILD))' PYTHON='$(PYTHON)' PATH="$(abspath $(VENV))-wheel/bin:$$PATH" $(WITH_POSTGRES) \
	  $(VENV)/bin/python -m pytest $(PYTEST_FLAGS) -c Tests/wheel/pytest.ini Tests/wheel

.PHONY: deb
deb: ## Build the Debian packages in build/deb, and look at them with lintian
	@.ci/setup build postgres deb
	@.ci/deb $(BUILD)/deb

.PHONY: test-deb
test-deb: ## Install, use, upgrade and remove the packages in a fresh Debian 12 (as root)
	@[ "$$(id -u)" != 0 ] || .ci/setup build postgres deb debootstrap
	@BUILD='$(BUILD)' Tests/deb/run

.PHONY: test-deb-reproducible
test-deb-reproducible: ## Build the Debian packages once more elsewhere: they must be the same, byte by byte
	@.ci/setup build postgres deb
	@BUILD='$(BUILD)' Tests/deb/reproducible

.PHONY: release-check
release-check: ## Everything a release needs, in a fresh clone of HEAD, with one table at the end (ONLY='versions|lint')
	@BUILD='$(BUILD)' ONLY='$(ONLY)' .ci/release-check

# For bench: the parts to measure; empty = all. QUICK=1: fewer and shorter rounds.
PARTS ?=

.PHONY: bench
bench: all ## Measure the pools beside others: build/bench/report.html (QUICK=1: 10 minutes; PARTS='hot fill': some)
	@.ci/setup build postgres python valgrind
	@.ci/venv $(PYTHON) $(BUILD)/bench/venv .ci/requirements-report.txt
	@BUILD='$(BUILD)' bench/compile
	@DBPOOL_MAX_CONNECTIONS=400 $(WITH_POSTGRES) $(RUN_ENVIRONMENT) BUILD='$(BUILD)' PYTHON='$(PYTHON)' QUICK='$(QUICK)' \
	  bench/run $(PARTS)
	@$(RUN_ENVIRONMENT) BUILD='$(BUILD)' $(BUILD)/bench/venv/bin/python bench/report

.PHONY: bench-page
bench-page: ## Put what `make bench` has measured into docs/performance.md
	@.ci/venv $(PYTHON) $(BUILD)/bench/venv .ci/requirements-report.txt
	@BUILD='$(BUILD)' PYTHONDONTWRITEBYTECODE=1 $(BUILD)/bench/venv/bin/python bench/page

# -------------------------------------------------------------------------------------------------------- style

SWIFT_FOLDERS = Package.swift $(wildcard Sources Tests)
# One uses what the header does not have yet; its test compiles it with the same warnings. The pools of others need their headers.
C_FILES = $(filter-out Tests/abi-promise/newer_program.c,$(sort $(shell find Sources Tests examples bench -name '*.c' \
  -not -path '*/peers/*')))
C_FOLDERS = include Sources/CPoolShims/include $(sort $(dir $(C_FILES)))
SCRIPTS = $(shell find .ci Tests docs examples bench bindings debian -type f -perm -u+x ! -name '*.*')
PYTHON_FILES = $(wildcard bindings docs examples Tests bench) $(shell grep -lE '^.!.*python' $(SCRIPTS))
SHELL_FILES = $(shell grep -lE '^.!.*/(ba)?sh' $(SCRIPTS))
RUFF = RUFF_CACHE_DIR=$(BUILD)/ruff $(VENV)/bin/ruff

.PHONY: lint
lint: ## Check the style of Swift, C, Python, shell and text files
	swift format lint --strict --recursive --parallel $(SWIFT_FOLDERS)
	for language in '-std=c99 -x c' '-std=c11 -x c' '-std=c++11 -x c++' '-std=c++17 -x c++'; do \
	  $(CC_PLAIN) $$language -fsyntax-only $(WARNINGS) include/dbpool.h; done
	for language in c++17 c++20; do $(CC_PLAIN) -std=$$language -x c++ -fsyntax-only $(WARNINGS) -Iinclude include/dbpool.hpp; done
	for file in $(C_FILES); do $(CC_PLAIN) -std=c11 -D_GNU_SOURCE= -fsyntax-only $(WARNINGS) \
	  $(addprefix -I,$(C_FOLDERS)) $(LIBPQ_CFLAGS) $$file; done
	.ci/venv $(PYTHON) $(VENV)
	$(RUFF) check $(PYTHON_FILES)
	$(RUFF) format --check $(PYTHON_FILES)
	cd bindings/python && $(abspath $(VENV))/bin/mypy --cache-dir=$(abspath $(BUILD))/mypy
	for file in $(SHELL_FILES); do bash -n $$file; done
	.ci/lint-text

.PHONY: format
format: ## Bring Swift and Python files into form
	swift format --in-place --recursive --parallel $(SWIFT_FOLDERS)
	.ci/venv $(PYTHON) $(VENV)
	$(RUFF) check --fix $(PYTHON_FILES)
	$(RUFF) format $(PYTHON_FILES)

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "make %-19s %s\n", $$1, $$2}'

.PHONY: FORCE
FORCE:

endif
