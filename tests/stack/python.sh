# shellcheck shell=bash
# Python programs of the stack, each in a virtual environment of the cache, pinned by hash.

python_command() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
}

need_python() {
  [[ -n $(python_command) ]] || install_packages python3 python3-venv
  [[ -n $(python_command) ]] || die "please install Python 3.11 or newer with its venv module"
}

# The emulator and the scripts that talk to it.
setup_aws_python() { setup_venv aws requirements.txt; }

# A second emulator, for what the first has not: image scans. Beside it, as both bring their own AWS libraries.
setup_moto() { setup_venv moto moto.txt; }

# What developers and tests call by name: aws, act, actionlint, hadolint, zizmor. Its own environment, because awscli
# and the emulator want different versions of the same libraries.
setup_tools() { setup_venv tools tools.txt; }

setup_venv() {
  need_python
  local requirements=$STACK_SOURCES/$2 python
  python=$(python_command)
  cached "python-$1" "$(hash_of "$requirements" "$("$python" -VV)")" step "pip install ($1)" make_venv "$python" "$requirements" "$CACHE/python-$1"
  # shellcheck disable=SC2154 # set by `cached`
  ln -sfn "$cached" "$CACHE/python-$1/current"
}

make_venv() {
  local python=$1 requirements=$2 kind=$3 folder=$4
  "$python" -m venv "$folder"
  "$folder/bin/python" -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r "$requirements"
  # pip wrote the folder's temporary name into its scripts; they run under the name it will have.
  grep -lI --directories=skip "$folder" "$folder"/bin/* | xargs -r sed -i "s|$folder|$kind/${folder##*.making.}|g"
}

aws_python() { "$CACHE/python-aws/current/bin/python" "$@"; }
