#!/bin/sh
# Configure each lab.net=DEV,MAC,ADDRESS/LENGTH[,GATEWAY] given as an argument, or else on the kernel command line.
set -eu
[ $# -gt 0 ] || set -- $(cat /proc/cmdline)
for word in "$@"; do
    case $word in lab.net=*) ;; *) continue ;; esac
    value=${word#lab.net=}
    device=${value%%,*}; value=${value#*,}
    mac=${value%%,*}; value=${value#*,}
    address=${value%%,*}
    gateway=${value#"$address"}; gateway=${gateway#,}
    ip link set dev "$device" down
    ip addr flush dev "$device"
    ip link set dev "$device" address "$mac"
    ip link set dev "$device" up
    ip addr add "$address" dev "$device"
    if [ -n "$gateway" ]; then ip route replace default via "$gateway" dev "$device"; fi
done
