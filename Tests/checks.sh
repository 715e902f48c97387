# Sourced by test scripts: checks that are counted, and a scratch folder that goes at the end.
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

# check NAME COMMAND...: the command says what is wrong, by its output and its code.
check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED %s\n%s\n' "$name" "$output"
  fi
}

# `grep -q` would close the pipe early, which pipefail takes for a failure.
shows() { grep -E "$1" > /dev/null; }

end_checks() {
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
