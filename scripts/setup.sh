#!/bin/sh
# Make or refresh a virtual environment: scripts/setup.sh EXTRAS [FOLDER]
#
# EXTRAS  extras of the project, comma separated, e.g. "report" or "dev,parquet"
# FOLDER  where the environment lives, ".venv" when left out
#
# PYTHON names the interpreter when the first one on the path is not the one to use.
# A stamp in the environment remembers what was installed from which pyproject.toml, so that a
# second call does nothing. Extras add up: an environment that has more is left alone.
set -eu
cd "$(dirname "$0")/.."
extras=$1
venv=${2:-.venv}
stamps=$venv/.operando

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# No system library is needed so far. A portion that needs one names its Debian packages here.
system_packages=""
for package in $system_packages; do
    if ! dpkg -s "$package" >/dev/null 2>&1; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get install -y -qq "$package" >/dev/null
        else
            fail "A system library is missing. Install it: sudo apt-get install $package"
        fi
    fi
done

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

if ! [ -x "$venv/bin/python" ]; then
    if command -v uv >/dev/null; then
        uv venv --quiet --python "${PYTHON:->=3.11}" "$venv"
    else
        python=$(find_python)
        [ -n "$python" ] || fail \
            "operando needs Python 3.11 or newer; none was found." \
            "Debian, Ubuntu: sudo apt-get install python3 python3-venv" \
            "or name one:    make PYTHON=/path/to/python3.11"
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
            fail "$python cannot make virtual environments." \
                "Debian, Ubuntu: sudo apt-get install python$version-venv"
        fi
        "$python" -m venv "$venv"
    fi
fi

mkdir -p "$stamps"
project=$(cksum <pyproject.toml)
for extra in $(printf '%s' "$extras" | tr ',' ' '); do
    if [ "$(cat "$stamps/$extra" 2>/dev/null)" != "$project" ]; then
        missing=yes
    fi
done
[ -n "${missing:-}" ] || exit 0

printf 'Installing operando[%s] into %s ...\n' "$extras" "$venv" >&2
# -qq: errors alone. Editable: the project's folders are read where they lie, so a pull needs no second install.
if command -v uv >/dev/null; then
    uv pip install --quiet --python "$venv/bin/python" --editable ".[$extras]"
else
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
        fail "$venv is incomplete (no pip in it): make clean, then try again"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --no-warn-script-location --editable ".[$extras]"
fi
for extra in $(printf '%s' "$extras" | tr ',' ' '); do
    printf '%s' "$project" >"$stamps/$extra"
done
