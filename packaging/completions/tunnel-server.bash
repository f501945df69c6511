# bash completion of tunnel-server
_tunnel_server() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at=tunnel-server words='' flags='' valued='' i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$at ${COMP_WORDS[i]}" in
            "") at="$at ${COMP_WORDS[i]}" ;;
        esac
    done
    case $at in
        "tunnel-server") words='' flags='--allow-open-ingress --api-key --client-last-seen-timeout --config --connections --connector-key --help --listen --log-level --path-prefix --public-base-url --queue-max --response-timeout --tls-cert --tls-key --tunnel-id --url-file --version' valued='--api-key --client-last-seen-timeout --config --connections --connector-key --listen --log-level --path-prefix --public-base-url --queue-max --response-timeout --tls-cert --tls-key --tunnel-id --url-file' ;;
    esac
    if [[ " $valued " == *" $prev "* ]]; then
        COMPREPLY=($(compgen -f -- "$cur"))
    elif [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    fi
}
complete -o default -F _tunnel_server tunnel-server
