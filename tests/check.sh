# For test scripts: `check NAME COMMAND...` runs a command, prints its output only when it fails, and counts;
# `finish` prints "N passed, N failed" and exits.
passed=0 failed=0

# llsa_flags [--libs]: sets `flags` to what a compiler needs for the installed package, of which folders may have blanks.
llsa_flags() { eval "flags=($(pkg-config --cflags "$@" llsa))"; }

check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1 </dev/null); then
    passed=$((passed + 1))
    echo "ok      $name"
  else
    failed=$((failed + 1))
    echo "FAILED  $name"
    tail -40 <<<"$output" | sed 's/^/        /'
  fi
}

finish() {
  echo "$passed passed, $failed failed"
  exit $((failed > 0))
}
