# Completion of op-dbusctl for bash.

_op_dbusctl() {
    local words=() word before='' i
    # bash takes key=value apart at the equals sign; op-dbusctl wants it as one word.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((${#words[@]} > 0)) && [[ $word == '=' || $before == '=' ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        before=$word
    done
    local current=${words[${#words[@]} - 1]}
    local IFS=$'\013'
    COMPREPLY=($(
        _CLAP_IFS=$IFS _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
            _CLAP_COMPLETE_COMP_TYPE=$COMP_TYPE _CLAP_COMPLETE_SPACE=false \
            OP_DBUSCTL_COMPLETE=bash op-dbusctl -- "${words[@]}" 2>/dev/null
    ))
    if [[ $current == *=* && $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%%=*}="}")
    fi
    if [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *[=/:] ]]; then
        compopt +o nospace 2>/dev/null
    fi
}

complete -o nospace -o bashdefault -F _op_dbusctl op-dbusctl
