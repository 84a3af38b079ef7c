# For test scripts: runs the programs that examples/ was built into. The caller has sourced tests/check.sh, and set root.

# run_examples FOLDER: each program of examples/ in FOLDER, in an empty folder
run_examples() {
  local example place
  place=$(mktemp -d)
  for example in "$root"/examples/*.cpp; do
    example=$(basename "$example" .cpp)
    check "$example runs" env -C "$place" timeout 300 "$1/$example"
  done
  rm -rf "$place"
}
