# Sourced by scripts that need packages of other Debian suites than this machine's: apt with lists of its
# own below $kept/apt, from the mirror that this machine uses. Nothing is installed.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

mirror() { # SUITE
    local all
    all=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | sort -u)
    case $1 in
    *-security) grep -m 1 -- '-security' <<<"$all" ;;
    *) grep -v -- '-security' <<<"$all" | grep -m 1 '/debian/*$' ;;
    esac
}
apt_of_suite() { # SUITE COMMAND...
    local suite=$1 root=$kept/apt/$1 uri
    shift
    if [ ! -e "$root/config" ]; then
        uri=$(mirror "$suite") && [ -n "$uri" ] || return 1
        mkdir -p "$root"/{state,lists/partial,cache/archives/partial}
        touch "$root/state/status"
        echo "deb [arch=amd64,arm64 signed-by=$keyring] $uri $suite main" >"$root/sources"
        cat >"$root/config" <<END
Dir::State "$root/state";
Dir::State::status "$root/state/status";
Dir::State::lists "$root/lists";
Dir::Cache "$root/cache";
Dir::Etc::sourcelist "$root/sources";
Dir::Etc::sourceparts "-";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
END
    fi
    APT_CONFIG=$root/config "$@"
}
