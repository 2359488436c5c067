"""bash: strings, arrays, subshells and pipelines, which allocate and fork without end."""


from support import ProgramTest, main

SCRIPT = r"""
set -eu
declare -A count
words=()
for ((i = 0; i < 20000; i++)); do
    word="w$((i * 7919 % 1000))"
    count[$word]=$((${count[$word]:-0} + 1))
    words+=("$word:$i")
done
echo "${#count[@]} words, ${#words[@]} in all, w42: ${count[w42]}"

long=
for ((i = 0; i < 3000; i++)); do long+="line $i of a string that grows;"; done
echo "${#long} characters"
short=${long//line/L}
echo "${#short} after substitution"
[[ $long =~ line\ (29[0-9]+)\ of ]] && echo "matched ${BASH_REMATCH[1]}"

# Subshells, pipelines, here documents and jobs: every one of them a fork that goes on allocating.
for ((i = 0; i < 60; i++)); do
    sum=$(printf '%s\n' "${words[@]:i*10:50}" | sort -r | while read -r line; do echo "${line#*:}"; done | paste -sd+)
    echo "$((sum))"
done | sort -n | tail -3
for ((i = 0; i < 8; i++)); do (x=$(printf '%*s' $((i * 10000)) '' | tr ' ' x); exit $((${#x} != i * 10000))) & done
for job in $(jobs -p); do wait "$job"; done
mapfile -t lines < <(seq 1 50000)
echo "${#lines[@]} ${lines[-1]}"
cat <<END
${words[*]:100:40}
END
"""


class Bash(ProgramTest):
    needs = ("bash",)

    def work(self, run):
        run.assert_loads("bash", "-c", "(:); exit 0")
        output = run.command("bash", "-c", SCRIPT).out
        self.assertIn("1000 words, 20000 in all, w42: 20\n", output)
        self.assertIn("50000 50000\n", output)
        return output


if __name__ == "__main__":
    main()
