# SPDX-License-Identifier: GPL-2.0
# Completions of vfio-mig for bash. They come from the tool itself.

_vfio_mig() {
    local rest=${COMP_LINE:0:COMP_POINT} words=() word index=-1 i
    # Bash breaks words at colons and "="; what no space separates is one word here.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ $index -lt 0 || -z $rest || $rest == [[:space:]]* ]]; then
            index=$((index + 1))
            words[index]=
        fi
        rest=${rest#"${rest%%[![:space:]]*}"}
        word=${COMP_WORDS[i]}
        # Of the last word, only what is left of the cursor counts.
        [[ $i -eq $COMP_CWORD ]] && word=$rest
        words[index]+=$word
        rest=${rest#"$word"}
    done

    # The tool gets it as it would without a shell.
    local last=${words[index]} quote=
    if [[ $last == [\"\']* ]]; then
        quote=${last:0:1} last=${last:1}
    else
        last=${last//\\/}
    fi
    words[index]=$last
    # No name is taken for a pattern.
    mapfile -t COMPREPLY < <(
        VAR=bash _CLAP_COMPLETE_INDEX=$index "$1" -- "${words[@]}" 2>/dev/null
    )

    # Bash replaces what follows the last break.
    local char begun=
    for char in : =; do
        if [[ $COMP_WORDBREAKS == *"$char"* && $last == *"$char"* ]]; then
            word=${last%"${last##*"$char"}"}
            [[ ${#word} -gt ${#begun} ]] && begun=$word
        fi
    done
    for i in "${!COMPREPLY[@]}"; do
        word=${COMPREPLY[i]#"$begun"}
        # A name may have spaces.
        [[ -z $quote && -n $word ]] && printf -v word %q "$word"
        COMPREPLY[i]=$word
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/:=] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _vfio_mig vfio-mig
