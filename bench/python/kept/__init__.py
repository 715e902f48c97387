"""An engine of Django that keeps connections in a list, and nothing more: no limit, no check, no reset. What a pool in
Django cannot be quicker than."""
