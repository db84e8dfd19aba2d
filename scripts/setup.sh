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

# The window needs libraries of the system that a headless one lacks: file, then Debian package.
window_libraries="libGL.so.1:libgl1 libEGL.so.1:libegl1 libglib-2.0.so.0:libglib2.0-0 libdbus-1.so.3:libdbus-1-3
    libxkbcommon.so.0:libxkbcommon0 libfontconfig.so.1:libfontconfig1 libxcb-cursor.so.0:libxcb-cursor0
    libxcb-icccm.so.4:libxcb-icccm4 libxcb-keysyms.so.1:libxcb-keysyms1 libxcb-shape.so.0:libxcb-shape0
    libxkbcommon-x11.so.0:libxkbcommon-x11-0"

missing_packages() {
    [ "$(uname -s)" = Linux ] || return 0
    known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null) || return 0
    for library in $window_libraries; do
        case $known in
            *"${library%%:*} "*) ;;
            *) printf ' %s' "${library#*:}" ;;
        esac
    done
    # The tests click through the window on a display that nobody sees.
    case ,$extras, in
        *,dev,*)
            command -v Xvfb >/dev/null || printf ' xvfb'
            # Simulated Bluetooth sensors are served on a D-Bus of their own.
            command -v dbus-daemon >/dev/null || printf ' dbus'
            ;;
    esac
}

install_system_libraries() {
    packages=$(missing_packages)
    [ -n "$packages" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086 - a list of words
        apt-get install -y -qq $packages >/dev/null 2>&1 ||
            { apt-get update -qq && apt-get install -y -qq $packages >/dev/null; } ||
            fail "These system libraries could not be installed:$packages"
        return 0
    fi
    case ,$extras, in
        *,dev,*) fail "System libraries are missing. Install them: sudo apt-get install$packages" ;;
    esac
    printf '%s\n' "The window will need system libraries: sudo apt-get install$packages" >&2
}

case ,$extras, in
    *,dev,* | *,gui,*) install_system_libraries ;;
esac

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
