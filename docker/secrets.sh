#!/bin/sh
# The secrets of docker/compose.yaml, random, in docker/secrets/ (never in git, never in an image). What is there is kept.
#   ray_token          who has it may run code on the cluster
#   bucket.env         the bucket's root account, for the bucket itself
#   aws_credentials    the same for its clients: AWS_SHARED_CREDENTIALS_FILE
set -eu
folder="$(cd "$(dirname "$0")" && pwd)/secrets"
random() { od -An -tx1 -N"$1" /dev/urandom | tr -d ' \n'; }

# only this user may enter the folder; the files are open to the container's user, who has another number
mkdir -p "$folder"
chmod 700 "$folder"
umask 022
[ -s "$folder/ray_token" ] || random 32 >"$folder/ray_token"
if ! [ -s "$folder/aws_credentials" ]; then
  key="$(random 8)" secret="$(random 20)"
  printf 'ROOT_ACCESS_KEY=%s\nROOT_SECRET_KEY=%s\n' "$key" "$secret" >"$folder/bucket.env"
  printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$key" "$secret" >"$folder/aws_credentials"
fi
