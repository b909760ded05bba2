#!/bin/sh
# Runs in the chroot of the new guest after its packages are installed: keep the built ZFS module, drop the compilers,
# and leave a machine that boots fast, logs in as nobody, and does nothing by itself.
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
cat >"$dummy/DEBIAN/control" <<CONTROL
Package: lab-prebuilt-zfs
Version: 1
Architecture: all
Maintainer: lab <root@localhost>
Provides: zfs-dkms (= $(dpkg-query -W -f '${Version}' zfsutils-linux)), zfs-modules, dkms, linux-headers-amd64, linux-headers-cloud-amd64
Description: stands for the ZFS module that this image carries already built
CONTROL
chmod 755 "$dummy" "$dummy/DEBIAN"
dpkg-deb --build "$dummy" /tmp/lab-prebuilt-zfs.deb
dpkg -i /tmp/lab-prebuilt-zfs.deb
rm -rf "$dummy" /tmp/lab-prebuilt-zfs.deb
depmod "$kernel"
echo zfs >/etc/modules-load.d/zfs.conf

# The disk is a virtio one that devtmpfs names by itself: the initrd needs no udev, and the guest no hardware rules.
mkdir -p /etc/initramfs-tools/conf.d
echo MODULES=list >/etc/initramfs-tools/conf.d/lab
printf 'virtio_pci\nvirtio_blk\next4\n' >>/etc/initramfs-tools/modules
rm -f /usr/share/initramfs-tools/hooks/udev /usr/share/initramfs-tools/scripts/*/udev
for name in kvm kvm_amd kvm_intel ata_piix ata_generic powernow_k8 acpi_cpufreq serio_raw evdev button pcspkr psmouse \
    vsock vmw_vmci qemu_fw_cfg; do
    echo "blacklist $name"
done >/etc/modprobe.d/lab.conf
cd /usr/lib/udev/rules.d
rm -f 60-autosuspend* 60-cdrom* 60-drm* 60-evdev* 60-fido* 60-infiniband* 60-input* 60-persistent-alsa* 60-persistent-input* \
    60-persistent-storage-tape* 60-persistent-storage-mtd* 60-persistent-v4l* 60-sensor* 66-azure* 70-camera* 70-joystick* \
    70-mouse* 70-touchpad* 75-probe_mtd* 78-sound* 70-memory* 90-iocost*
cd /
mkdir -p /etc/systemd/system-generators
ln -s /dev/null /etc/systemd/system-generators/systemd-ssh-generator
# zfs-import requires this unit; under emulation it costs half the boot.
cat >/etc/systemd/system/systemd-udev-settle.service <<UNIT
[Unit]
Description=Nothing to wait for: virtio disks have their nodes before systemd starts
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
UNIT
update-initramfs -u -k "$kernel"

# `apt-get update` and `apt-get install ./x.deb` work without a network: there is no source to ask.
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
: >/etc/apt/sources.list

passwd -d root
echo lab >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts
echo '/dev/vda / ext4 noatime,errors=remount-ro 0 1' >/etc/fstab
: >/etc/machine-id
mkdir -p /var/log/journal /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitBurst=0\n' >/etc/systemd/journald.conf.d/lab.conf

# The lab's kernel command line brings the network, as a provider's image does; cloud-init leaves it alone.
cat >/etc/cloud/cloud.cfg.d/90_lab.cfg <<CLOUD
# With two to choose from, cloud-init switches itself off when neither is there.
datasource_list: [NoCloud, ConfigDrive]
network: {config: disabled}
apt: {preserve_sources_list: true}
manage_etc_hosts: false
CLOUD
systemctl enable lab-network.service

for unit in apt-daily.timer apt-daily-upgrade.timer man-db.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer logrotate.timer systemd-tmpfiles-clean.timer serial-getty@ttyS0.service \
    getty@tty1.service getty-static.service systemd-timesyncd.service systemd-networkd.service \
    systemd-networkd.socket systemd-networkd-wait-online.service networking.service console-setup.service \
    keyboard-setup.service systemd-pstore.service rpc-statd-notify.service nfs-blkmap.service rpc-statd.service systemd-logind.service modprobe@drm.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
systemctl disable sanoid.timer ssh.service || true
rm -f /etc/systemd/system/timers.target.wants/sanoid.timer
rm -rf /usr/share/man/* /usr/share/locale/* /var/cache/apt/*.bin
find /usr/share/doc -type f ! -name copyright -delete
# Otherwise the first boot rebuilds the linker cache, the journal's catalog and the system users.
touch /etc/.updated /var/.updated
chmod 755 /usr/local/lib/lab/network
