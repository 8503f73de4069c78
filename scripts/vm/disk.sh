#!/usr/bin/env bash
# Makes what the virtual machine boots from, in target/vm: Debian's kernel and initial memory disk, and
# a disk with Debian 12, systemd, the wharf binary ($1), its units and the checks of `guest/`.
#
# What comes from Debian is made once and kept (root.tar, base.tar); remove target/vm to make it anew.
set -euo pipefail
cd "$(dirname "$0")/../.."

wharf=$1
out=$PWD/target/vm
mirror=${VM_MIRROR:-http://deb.debian.org/debian}
mkdir -p "$out"

say() { printf -- '-----> %s\n' "$*" >&2; }
bootstrap() {
  mmdebstrap --quiet --variant=minbase --mode=root --aptopt='Acquire::Languages "none"' \
    --aptopt='Acquire::Retries 3' --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' "$@"
}
# A half-made file never gets the name of a whole one, and one that was made otherwise is made anew.
kept() {
  local file=$1
  shift
  [ -e "$out/$file" ] && [ "$(cat "$out/$file.made-by" 2>/dev/null)" = "$*" ] && return
  say "Making $file, once"
  rm -f "$out/.new-$file" "$out/$file.made-by"
  bootstrap "$@" bookworm "$out/.new-$file.tar" "$mirror"
  mv "$out/.new-$file.tar" "$out/$file"
  printf '%s' "$*" >"$out/$file.made-by"
}

# The machine. Its memory disk holds no more than its one disk needs.
kept root.tar \
  --include=systemd-sysv,linux-image-amd64,initramfs-tools,zstd,kmod,git,nftables,iptables,iproute2,curl,python3,busybox-static,runc \
  --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
  --essential-hook='printf "MODULES=list\nCOMPRESS=zstd\n" >"$1/etc/initramfs-tools/conf.d/vm"' \
  --customize-hook='printf "virtio_pci\nvirtio_blk\next4\n" >>"$1/etc/initramfs-tools/modules"' \
  --customize-hook='chroot "$1" update-initramfs -u'
# What the apps in it stand on: there is no internet inside.
kept base.tar --include=python3,procps

work=$(mktemp -d "$out/.root-XXXXXX")
trap 'rm -rf "$work"' EXIT
# Drivers of no machine like this one are most of what there is.
drivers=(gpu media infiniband iio usb scsi staging mmc mtd hid input net/wireless net/ethernet net/usb net/dsa)
tar -xf "$out/root.tar" -C "$work" "${drivers[@]/#/--exclude=./lib/modules/*/kernel/drivers/}" \
  --exclude='./lib/modules/*/kernel/sound' --exclude='./usr/share/doc/*'
cp "$work"/boot/vmlinuz-* "$out/kernel"
cp "$work"/boot/initrd.img-* "$out/initrd"
rm -rf "$work"/boot/* "$work"/var/cache/apt/* "$work"/var/lib/apt/lists/*

install -m 755 "$wharf" "$work/usr/local/bin/wharf"
install -m 644 packaging/wharf.service packaging/wharf-proxy.service -t "$work/etc/systemd/system"
mkdir -p "$work/opt/vm/apps"
cp "$out/base.tar" "$work/opt/vm/base.tar"
cp scripts/vm/guest/*.py "$work/opt/vm/"
cp -r scripts/vm/guest/probe examples/static-site "$work/opt/vm/apps/"
cp scripts/vm/guest/vm-check.service "$work/etc/systemd/system/"
cp packaging/wharf.toml "$work/etc/wharf.toml"
printf 'base = "/opt/vm/base.tar"\ndisk_reserve = "64M"\n' >>"$work/etc/wharf.toml"
for unit in wharf wharf-proxy vm-check; do
  ln -s "/etc/systemd/system/$unit.service" "$work/etc/systemd/system/multi-user.target.wants/"
done
ln -sf /dev/null "$work/etc/systemd/system/serial-getty@ttyS0.service"
ln -sf /dev/null "$work/etc/systemd/system/getty@tty1.service"
echo wharf-vm >"$work/etc/hostname"
echo '127.0.0.1 localhost wharf-vm' >"$work/etc/hosts"
: >"$work/etc/fstab"
rm -f "$work/etc/machine-id"
echo uninitialized >"$work/etc/machine-id"
if [ -d "$out/engine-tests" ]; then
  cp -r "$out/engine-tests" "$work/opt/vm/"
  # They know the programs they start by the paths these were built at.
  while read -r name path; do
    install -D -m 755 "$out/engine-tests/programs/$name" "$work$path"
  done <"$out/engine-tests/paths"
  git ls-files 'crates/engine/*.snap' | tar -cf - -T - | tar -xf - -C "$work/opt/vm/engine-tests"
fi

rm -f "$out/disk"
truncate -s 3G "$out/disk"
mke2fs -q -t ext4 -d "$work" "$out/disk"
