#!/bin/sh
# build.sh [--image NAME]... [--base registry|mmdebstrap] [--no-cache]
#
# Builds those of the images localhost/podserve-{base,apache,mail,dns,certificates}:latest whose files have changed since their last build.
#   --image NAME   only this image (and base, if it is out of date); may be repeated
#   --base KIND    the source of the Debian 13 root. Default: the registry or, if none answers, mmdebstrap
#   --no-cache     build even what has not changed; without --image, the Debian root too
# Each line of output begins with the name of its image.
set -eu
unset CDPATH # With it, cd could find another folder of that name.
cd "$(dirname "$0")"

wanted='' kind='' cache=''
while [ $# -gt 0 ]; do
    case $1 in
    --image) wanted="$wanted ${2:?--image needs a name}"; shift ;;
    --base) kind=${2:?--base needs registry or mmdebstrap}; shift ;;
    --no-cache) cache=--no-cache ;;
    *) echo "build.sh: unknown argument '$1'; see the head of docker/build.sh" >&2; exit 2 ;;
    esac
    shift
done
case $kind in '' | registry | mmdebstrap) ;; *) echo "build.sh: --base is '$kind': expected registry or mmdebstrap" >&2; exit 2 ;; esac
for name in $wanted; do
    case $name in base | apache | mail | dns | certificates) ;; *) echo "build.sh: no image '$name': expected base, apache, mail, dns or certificates" >&2; exit 2 ;; esac
done

conf=$(./engine.sh)
[ -z "$conf" ] || export CONTAINERS_CONF="$conf"
mkdir -p ../.podserve
exec 9> ../.podserve/build.lock
flock --nonblock 9 || { echo 'images: another build holds the lock: waiting for it to end'; flock 9; }

root=localhost/podserve-debian:trixie
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# said NAME COMMAND...: runs a command, puts NAME before each line of its output, and fails if the command fails
said() {
    prefix=$1
    shift
    rm -f "$work/$prefix.done"
    { "$@" </dev/null && : > "$work/$prefix.done"; } 2>&1 | sed -u "s/^/$prefix: /"
    [ -e "$work/$prefix.done" ]
}

from_registry() {
    echo 'debian: asking the registry'
    # Podman's list of aliases completes this short name.
    said debian timeout 120 podman pull -q debian:trixie-slim && podman tag debian:trixie-slim "$root" 2>/dev/null
}

from_archive() {
    if ! command -v mmdebstrap >/dev/null; then
        echo 'debian: mmdebstrap is missing. Install it: apt-get install mmdebstrap' >&2
        return 1
    fi
    echo "debian: bootstrapping from Debian's archive"
    said debian mmdebstrap --quiet --variant=minbase \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt=force-unsafe-io \
        trixie "$work/root.tar" &&
        said debian podman import -q "$work/root.tar" "$root"
}

debian() {
    case $kind in
    registry) from_registry ;;
    mmdebstrap) from_archive ;;
    *) from_registry || from_archive ;;
    esac
}

# digest NAME PARENT: a hash of an image's files and of its parent's digest
digest() { { echo "$2"; tar -c --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner "$1"; } | sha256sum | cut -d ' ' -f 1; }

# known IMAGE FIELD: the inputs (2) or the id (3) of an image in `there` (below); nothing if there was no such image
known() { echo "$there" | awk -F '|' -v name="$1," -v field="$2" 'index($1, name) { print $field }'; }

# build NAME DIGEST: prints the build's output; exit status 1 if the build failed
build() {
    project() { sed -n "s/^$1 = \"\(.*\)\"/\1/p" ../pyproject.toml; }
    said "$1" podman build $cache --tag "localhost/podserve-$1:latest" --label "podserve.inputs=$2" \
        --label "org.opencontainers.image.title=podserve-$1" \
        --label "org.opencontainers.image.version=$(project version)" \
        --label "org.opencontainers.image.source=$(project Source)" \
        --label "org.opencontainers.image.licenses=MIT" \
        --label "org.opencontainers.image.revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
        --label "org.opencontainers.image.created=$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" ||
        { echo "$1: the build failed" >&2; return 1; }
}

current=yes
anew=$cache # applies to the Debian root and base, too
case " $wanted " in '  ' | *' base '*) ;; *) anew='' ;; esac
# One question for all images, because Podman takes longer to start than to answer. (It prints the images that exist, and then fails.)
there=$(podman image inspect --format '{{join .RepoTags ","}},|{{index .Config.Labels "podserve.inputs"}}|{{.Id}}' "$root" \
    localhost/podserve-base:latest localhost/podserve-apache:latest localhost/podserve-mail:latest \
    localhost/podserve-dns:latest localhost/podserve-certificates:latest 2>/dev/null) || :
id=$(known "$root" 3)
if [ -n "$kind$anew" ] || [ -z "$id" ]; then
    debian || { echo 'debian: no Debian 13 root: neither a registry nor the archive answered. Check the network, then build again' >&2; exit 1; }
    id=$(podman image inspect --format '{{.Id}}' "$root")
fi

inputs=$(digest base "$id")
if [ -n "$anew" ] || [ "$(known localhost/podserve-base:latest 2)" != "$inputs" ]; then
    current=no
    build base "$inputs"
fi

jobs=''
for name in ${wanted:-apache mail dns certificates}; do
    [ "$name" != base ] || continue
    mine=$(digest "$name" "$inputs")
    if [ -n "$cache" ] || [ "$(known "localhost/podserve-$name:latest" 2)" != "$mine" ]; then
        current=no
        build "$name" "$mine" &
        jobs="$jobs $!"
    fi
done
failed=0
for job in $jobs; do wait "$job" || failed=1; done
[ "$failed" = 0 ] || exit 1
[ "$current" = no ] || echo 'images: up to date'
