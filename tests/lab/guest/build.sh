#!/bin/sh
# Runs in the chroot of the new guest right after its packages are installed, the ZFS module built among them: keep the
# module, drop the compilers, and leave dpkg's view of the machine whole.
set -eu
export DEBIAN_FRONTEND=noninteractive
kernel=$(ls /lib/modules)
modules=/lib/modules/$kernel

# The module outlives the packages that built it.
mkdir -p "$modules/extra"
for name in spl zfs; do
    built=$(find "$modules/updates" -name "$name.ko*")
    case $built in
        *.xz) xz -dc "$built" >"$modules/extra/$name.ko" ;;
        *) cp "$built" "$modules/extra/$name.ko" ;;
    esac
done
apt-get purge -y -q zfs-dkms dkms linux-headers-cloud-amd64
apt-get autoremove -y -q --purge

# dpkg must still see the module: a package under test, or a user's cloud-init, may ask for it by name.
dummy=$(mktemp -d)
mkdir -p "$dummy/DEBIAN"
zfs=$(dpkg-query -W -f '${Version}' zfsutils-linux)
cat >"$dummy/DEBIAN/control" <<CONTROL
Package: lab-prebuilt-zfs
Version: 1
Architecture: all
Maintainer: lab <root@localhost>
Provides: zfs-dkms (= $zfs), zfs-modules, dkms, linux-headers-amd64, linux-headers-cloud-amd64
Description: stands for the ZFS module that this image carries already built
CONTROL
chmod 755 "$dummy" "$dummy/DEBIAN"
dpkg-deb --build "$dummy" /tmp/lab-prebuilt-zfs.deb
dpkg -i /tmp/lab-prebuilt-zfs.deb
rm -rf "$dummy" /tmp/lab-prebuilt-zfs.deb
depmod "$kernel"

# `apt-get update` and `apt-get install ./x.deb` work without a network: there is no source to ask.
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
: >/etc/apt/sources.list
rm -f /var/cache/apt/*.bin
