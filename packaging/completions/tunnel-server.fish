# fish completion of tunnel-server
function __tunnel_server_at
    set -l at tunnel-server
    for word in (commandline -opc)[2..-1]
        switch "$at $word"
            case ''
                set at "$at $word"
        end
    end
    test "$at" = "$argv[1]"
end
complete -c tunnel-server -f
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l allow-open-ingress -d 'let other hosts call without a connector key'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l api-key -r -F -d 'key that tunnel clients present'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l client-last-seen-timeout -r -F -d 'how long a silent client counts as connected (default 20s)'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l config -r -F -d 'read everything from a YAML document; SIGHUP reads it again'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l connections -r -F -d 'connections at a time (default 2048)'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l connector-key -r -F -d 'key that connectors present in X-Tunnel-Connector-Key'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l help -d 'show this'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l listen -r -F -d 'host:port or unix:/path (default 127.0.0.1:8080)'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l log-level -r -F -d 'error, warn, info, debug or trace (default info)'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l path-prefix -r -F -d 'serve everything below this path'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l public-base-url -r -F -d 'the URL under which callers reach this server'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l queue-max -r -F -d 'calls that may wait per tunnel (default 1000)'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l response-timeout -r -F -d 'how long a call is held (default 120s)'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l tls-cert -r -F -d 'certificate chain, PEM'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l tls-key -r -F -d 'its private key, PEM'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l tunnel-id -r -F -d 'a tunnel to serve; repeatable'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l url-file -r -F -d 'write the base URL of the first listener here once serving'
complete -c tunnel-server -n '__tunnel_server_at "tunnel-server"' -l version -d 'show the version'
