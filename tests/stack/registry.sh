# shellcheck shell=bash
# A plain OCI registry (CNCF distribution), for pushes that are not to ECR.

# Taken out of its package instead of installed: installing would also start it as a service of this machine.
setup_registry() {
  [[ -n $(type -P apt-get) ]] || { [[ -n $(type -P docker-registry) ]] || die "please install docker-registry (CNCF distribution)"; return; }
  local version
  version=$(apt-cache policy docker-registry | sed -nE 's/ *Candidate: (.+)/\1/p')
  if [[ -z $version ]]; then
    step "apt update" refresh_package_lists
    version=$(apt-cache policy docker-registry | sed -nE 's/ *Candidate: (.+)/\1/p')
  fi
  cached registry "$(hash_of "${version:-none}")" step "docker-registry $version" unpack_registry
  # shellcheck disable=SC2154 # set by `cached`
  ln -sfn "$cached/usr/bin/docker-registry" "$CACHE/bin/docker-registry"
}

unpack_registry() (
  cd "$1" || exit
  apt-get download -q docker-registry
  dpkg -x ./*.deb .
  rm ./*.deb
)

write_registry_settings() {
  cat >"$1" <<END
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage:
  filesystem: {rootdirectory: $2}
  delete: {enabled: true}
http: {addr: "127.0.0.1:$3"}
END
}
