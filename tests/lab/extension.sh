#!/bin/sh
# A backend by commands, as an operator would write one: host-gw. It notes each call in /run/calls of its node.
# extension.sh pre|post|add|remove|shutdown
set -eu
text=
if [ "$1" = pre ]; then
    echo "key of $(hostname)"
else
    read -r text
fi
echo "$1 ${SUBNET-} ${PUBLIC_IP-} $text" >> /run/calls
case $1 in
add)
    if [ -e /run/broken ]; then
        echo "the lab says it is broken" >&2
        exit 1
    fi
    ip route replace "$SUBNET" via "$PUBLIC_IP" proto static
    if [ -n "$IPV6_SUBNET" ]; then ip route replace "$IPV6_SUBNET" via "$PUBLIC_IPV6" proto static; fi
    ;;
remove)
    ip route del "$SUBNET" via "$PUBLIC_IP" proto static
    if [ -n "$IPV6_SUBNET" ]; then ip route del "$IPV6_SUBNET" via "$PUBLIC_IPV6" proto static; fi
    ;;
esac
