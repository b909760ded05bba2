# Sent to a guest just restored: clones of one saved state share random numbers, clock, ids and name until this ran.
# Fresh entropy comes on stdin; NOW, MACHINE_ID, HOSTID (8 hex digits, little-endian), NAME and NET in the environment.
set -e
cat >/dev/urandom
perl -e 'open F, ">", "/dev/urandom" or die; ioctl F, 0x5207, 0 or die "RNDRESEEDCRNG: $!"'
date -s "@$NOW" >/dev/null
echo "$MACHINE_ID" >/etc/machine-id
perl -e 'print pack "H8", shift' "$HOSTID" >/etc/hostid
head -c 512 /dev/urandom >/var/lib/systemd/random-seed
echo "$NAME" >/etc/hostname
hostname "$NAME"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost ip6-localhost ip6-loopback\n' "$NAME" >/etc/hosts
sh /usr/local/lib/lab/network "$NET"
# journald keeps its files under the machine id it started with.
systemctl restart systemd-journald
