#!/usr/bin/env bash
# Packs what gpu_session.sh reads into one file of less than 60 MB: digits, clothes and photographs as their sources publish them.
#
#   tests/gpu_inputs.sh FOLDER... FILE.tar      FOLDERs hold the data as CDLM_DATA does (see `cdlm data list`)
set -euo pipefail
file=${*: -1}
folders=("${@:1:$#-1}")
((${#folders[@]})) || { echo "error: name the folders of the data, then the file to write" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for folder in "${folders[@]}"; do
  for part in MNIST USPS FashionMNIST BSDS500/images; do
    [[ -d $folder/$part ]] && mkdir -p "$place/$part" && cp -rL "$folder/$part/." "$place/$part/"
  done
done
chmod -R u+w "$place"
find "$place" -name '*ubyte.gz' -exec gunzip {} +
find "$place" -name '*ubyte' -exec xz -9e {} +      # smaller than gzip; gpu_session.sh unpacks them
tar -cf "$file.part" -C "$place" .
size=$(stat -c %s "$file.part" 2>/dev/null || stat -f %z "$file.part")
((size < 60000000)) || { rm "$file.part"; echo "error: $size bytes; leave out a folder" >&2; exit 1; }
mv "$file.part" "$file"
echo "$file: $size bytes"
