#!/bin/sh
# Runs a container to find the settings that Podman needs on this host, and prints the path of the containers.conf to use: a file of
# this checkout, or nothing if Podman's own settings work. It changes nothing on the host. .podserve/ keeps the answer, and
# `engine.sh --again` looks again. If CONTAINERS_CONF is already set, it is tried and not replaced.
set -eu
unset CDPATH # With it, cd could find another folder of that name.
state=$(cd "$(dirname "$0")/.." && pwd)/.podserve
conf=$state/containers.conf

answer() {
    [ ! -s "$conf" ] || echo "$conf"
    exit 0
}

if [ "${1-}" != --again ]; then
    [ -z "${CONTAINERS_CONF-}" ] || exit 0
    [ ! -e "$conf" ] || answer
fi
mkdir -p "$state"

# If Podman hangs (on a lock of another process, or on storage), that is reported after 60 s.
podman() {
    timeout --foreground -k 5 60 podman "$@" || {
        code=$?
        case $code in 124 | 137) echo "engine: podman has not ended within 60 s. See what 'podman info' says, as this user" >&2 ;; esac
        return "$code"
    }
}

catatonit=$(command -v catatonit || find /usr/libexec/podman /usr/lib/podman -name catatonit 2>/dev/null | head -n 1)
if [ -z "$catatonit" ]; then
    echo "engine: catatonit is missing, which Podman needs for pods. Install it: apt-get install catatonit" >&2
    exit 1
fi
trial=localhost/podserve-trial-$$
tried=$conf.$$
tar -C "$(dirname "$catatonit")" -c catatonit | podman --log-level error import -q - "$trial" >/dev/null
trap 'podman rmi -f "$trial-built" "$trial" >/dev/null 2>&1; rm -f "$tried"' EXIT

hard() { awk -v what="$1" 'index($0, what) == 1 { print $(NF - 1) }' /proc/self/limits; }
files=$(hard 'Max open files')
processes=$(hard 'Max processes')
# Podman 4.3.1 with runc 1.1.5 refuses a number of processes near the hard limit, but not one like the number of files.
[ "$processes" != unlimited ] && [ "$processes" -le "$files" ] || processes=$files

# settings WORD...: prints a containers.conf with the settings named by those words
settings() {
    for word in "$@"; do
        [ "$word" != runc ] || printf '[engine]\nruntime = "runc"\n'
    done
    echo '[containers]'
    for word in "$@"; do
        case $word in
        limits) printf 'default_ulimits = ["nofile=%s:%s", "nproc=%s:%s"]\n' "$files" "$files" "$processes" "$processes" ;;
        no-pids-limit) echo 'pids_limit = 0' ;;
        esac
    done
}

# runs: runs a container, and a step of a build, which gets its limits in another way; prints Podman's error if one fails
runs() {
    { podman run --rm --network none "$trial" /catatonit --version >/dev/null &&
        printf 'FROM %s\nRUN ["/catatonit", "--version"]\n' "$trial" |
        podman build --no-cache --network none --tag "$trial-built" --file - "$state" >/dev/null; } 2>&1
}

if failure=$(runs); then
    [ -n "${CONTAINERS_CONF-}" ] || : > "$conf"
    answer
elif [ -n "${CONTAINERS_CONF-}" ]; then
    echo "engine: Podman cannot run a container with the settings in $CONTAINERS_CONF: $failure" >&2
    exit 1
fi
for words in limits no-pids-limit 'limits no-pids-limit' runc 'runc limits' 'runc no-pids-limit' 'runc limits no-pids-limit'; do
    # shellcheck disable=SC2086 # a list of words
    settings $words > "$tried"
    if CONTAINERS_CONF=$tried runs >/dev/null; then
        mv "$tried" "$conf"
        echo "engine: Podman runs containers here with $words (.podserve/containers.conf), not by its own settings: $(echo "$failure" | tail -n 1)" >&2
        answer
    fi
done

echo "engine: Podman cannot run a container on this host: $failure" >&2
echo "engine: see what 'podman run --rm IMAGE true' says, as this user" >&2
exit 1
