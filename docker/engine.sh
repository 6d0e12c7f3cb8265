#!/bin/sh
# Finds out, by running a container, which settings Podman needs on this host, and prints the containers.conf to use:
# a file of this checkout, or nothing where Podman's own settings work. Nothing of the host's is changed.
# Where the answer is kept: .podserve/. `engine.sh --again` finds out anew. A CONTAINERS_CONF that is set already is left
# as it is; it is tried, too, but not replaced.
set -eu
unset CDPATH # by which cd would find another folder of that name
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

# Podman that hangs (a lock that another holds, storage that does not answer) is told of, not waited for.
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
# A number of processes near the hard limit is refused (Podman 4.3.1 with runc 1.1.5), one like that of files is not.
[ "$processes" != unlimited ] && [ "$processes" -le "$files" ] || processes=$files

# settings WORD...: a containers.conf of those words
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

# runs: what Podman says when it fails to run a container, or a step of a build, which takes its limits another way
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
