#!/bin/sh
# Runs in a chroot of the guest's root: make a machine that boots fast, logs in as nobody, and does nothing by itself.
set -eu
echo zfs >/etc/modules-load.d/zfs.conf

# The disk is a virtio one that devtmpfs names by itself: the initrd needs no udev, and the guest no hardware rules.
mkdir -p /etc/initramfs-tools/conf.d
echo MODULES=list >/etc/initramfs-tools/conf.d/lab
printf 'virtio_pci\nvirtio_blk\nvirtio_net\nvirtio_rng\next4\n' >>/etc/initramfs-tools/modules
rm -f /usr/share/initramfs-tools/hooks/udev /usr/share/initramfs-tools/scripts/*/udev
cd /usr/lib/udev/rules.d
rm -f 60-autosuspend* 60-cdrom* 60-drm* 60-evdev* 60-fido* 60-infiniband* 60-input* 60-persistent-alsa* \
    60-persistent-input* 60-persistent-storage-tape* 60-persistent-storage-mtd* 60-persistent-v4l* 60-sensor* \
    66-azure* 70-camera* 70-joystick* 70-mouse* 70-touchpad* 75-probe_mtd* 78-sound* 70-memory* 90-iocost* 80-drivers*
cd /
mkdir -p /etc/systemd/system-generators
ln -sf /dev/null /etc/systemd/system-generators/systemd-ssh-generator
# zfs-import requires this unit; under emulation it costs half the boot.
cat >/etc/systemd/system/systemd-udev-settle.service <<UNIT
[Unit]
Description=Nothing to wait for: virtio disks have their nodes before systemd starts
DefaultDependencies=no
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
UNIT
# Of the 270 devices of such a machine three kinds matter.
mkdir -p /etc/systemd/system/systemd-udev-trigger.service.d
cat >/etc/systemd/system/systemd-udev-trigger.service.d/lab.conf <<UNIT
[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --subsystem-match=block --subsystem-match=net --subsystem-match=virtio-ports
UNIT
# The guest agent reports every question it is asked to the journal, many a second.
mkdir -p /etc/systemd/system/qemu-guest-agent.service.d
printf '[Service]\nLogLevelMax=notice\n' >/etc/systemd/system/qemu-guest-agent.service.d/lab.conf
update-initramfs -u -k "$(ls /lib/modules)"

passwd -d root
echo lab >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts
echo '/dev/vda / ext4 noatime,errors=remount-ro 0 0' >/etc/fstab
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
    keyboard-setup.service systemd-pstore.service rpc-statd-notify.service nfs-blkmap.service rpc-statd.service \
    systemd-logind.service modprobe@drm.service modprobe@configfs.service modprobe@fuse.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount tmp.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
    systemd-udev-load-credentials.service zfs-volume-wait.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
systemctl disable sanoid.timer ssh.service || true
rm -f /etc/systemd/system/timers.target.wants/sanoid.timer
rm -rf /usr/share/man/* /usr/share/locale/*
find /usr/share/doc -type f ! -name copyright -delete
# Otherwise the first boot rebuilds the linker cache, the journal's catalog and the system users.
touch /etc/.updated /var/.updated
chmod 755 /usr/local/lib/lab/network
