# Sourced by Tests/deb/run: a throw-away Debian in $root.

# Mounts and processes of a command end with it. Nothing of the caller's environment gets in.
in_root() {
  unshare --mount --pid --fork --kill-child chroot "$root" /usr/bin/env -i \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive AUTOPKGTEST_TMP="${work:-/tmp}" \
    /bin/sh -euc 'mount -t proc proc /proc; cd "$AUTOPKGTEST_TMP"; exec "$@"' sh "$@"
}

unpack_root() { # TARBALL
  tar -C "$root" --numeric-owner -xzf "$1"
  chmod 755 "$root"
  [ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$root/etc/resolv.conf"
}

install_packages() {
  in_root apt-get -qy --no-install-recommends -o Dpkg::Use-Pty=0 install "$@"
}

# What is there: every name with its type, mode, owner, length and target. Logs and caches may change, not their names;
# but man keeps each page that it has shown.
snapshot() {
  (
    cd "$root"
    find . -xdev \( -path ./proc -o -path ./tmp -o -path ./var/tmp -o -path ./packages -o -path ./var/cache/man \) -prune -o -printf '%y %m %u %g %p %l\n'
    find usr etc -xdev -type f ! -name ld.so.cache -printf '%s %p\n'
  ) | LC_ALL=C sort
}

installed() { # PACKAGE [VERSION]
  local found
  found=$(in_root dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2> /dev/null) || found=none
  [[ $found == "installed ${2:-}"* ]] || { echo "$1 is: $found"; return 1; }
}
