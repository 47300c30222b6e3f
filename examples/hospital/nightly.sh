#!/bin/sh
# One night of a hospital: new files from an inbox, predictions, worklist, a table for the information system, a summary.
#
#     SKINKIT_WORKSPACE=/srv/skin sh nightly.sh            from cron or systemd; see README.md beside this file
#
# Settings, all of them environment variables:
#     SKINKIT_WORKSPACE   folder with skinkit.toml, an installed model and one inference cohort  (must be set)
#     SKINKIT_COHORT      that cohort                                                            (ward)
#     SKINKIT_PHOTOS      the folder the cohort reads; new files are moved here                  ($SKINKIT_WORKSPACE/photos)
#     SKINKIT_INBOX       where photos and the table arrive                                      ($SKINKIT_WORKSPACE/inbox)
#     SKINKIT_OUTBOX      where the tables for the information system go                         ($SKINKIT_WORKSPACE/outbox)
#                         (folders that are named here must exist: one that is absent may be a share that is not mounted)
#     SKINKIT_SETTLE_MIN  a file is taken when nothing has been written to it for so long        (10)
#     SKINKIT_ENCODING    utf-8, utf-8-sig (Excel) or gb18030                                    (utf-8-sig)
#     SKINKIT_KEY         key file, where ids are pseudonyms and the table is to have the real ones
#     SKINKIT_JOBS        processes                                                              (all cores)
#     SKINKIT_KEEP_DAYS   days after which logs are deleted                                      (90)
#     SKINKIT             the program                                                            (skinkit)
#
# Exit codes are skinkit's own: 0 done, 3 done and some case failed for the first time, 6 another night is at work (nothing
# was touched), 143 and 130 stopped by a signal, anything else: look at the summary. Run it as often as you like: what was
# done is not done again, and what was interrupted goes on.
set -u
umask 077
PYTHONUTF8=1 # file names are UTF-8 whatever the language of this shell is
export PYTHONUTF8

say() { printf '%s\n' "$*"; }
stop() { # code, words
    code=$1
    shift
    say "skinkit night: $*" >&2
    exit "$code"
}

[ -n "${SKINKIT_WORKSPACE:-}" ] || stop 2 "SKINKIT_WORKSPACE is not set; set it to the folder with skinkit.toml"
[ -f "$SKINKIT_WORKSPACE/skinkit.toml" ] || stop 2 "no skinkit.toml in $SKINKIT_WORKSPACE; make one with 'skinkit init'"
workspace=$(cd "$SKINKIT_WORKSPACE" && pwd) || stop 2 "$SKINKIT_WORKSPACE cannot be entered"
cohort=${SKINKIT_COHORT:-ward}
photos=${SKINKIT_PHOTOS:-$workspace/photos}
inbox=${SKINKIT_INBOX:-$workspace/inbox}
outbox=${SKINKIT_OUTBOX:-$workspace/outbox}
settle=${SKINKIT_SETTLE_MIN:-10}
encoding=${SKINKIT_ENCODING:-utf-8-sig}
keep_days=${SKINKIT_KEEP_DAYS:-90}
skinkit=${SKINKIT:-skinkit}
state=$workspace/nightly
stamp=$(date -u +%Y%m%dT%H%M%SZ)-$$

case $settle in
*[!0-9]* | "") stop 2 "SKINKIT_SETTLE_MIN=$settle is no number of minutes" ;;
esac
case $inbox/ in
"$photos"/*) stop 2 "the inbox $inbox lies in $photos, which would be read before files have arrived" ;;
esac
command -v "$skinkit" >/dev/null 2>&1 || stop 2 "no program $skinkit; set SKINKIT to its path, or PATH"
for folder in ${SKINKIT_PHOTOS:+"$photos"} ${SKINKIT_INBOX:+"$inbox"}; do
    [ -d "$folder" ] || stop 4 "no folder $folder; mount its share, or make it"
done
[ -n "${SKINKIT_OUTBOX:-}" ] || mkdir -p "$outbox" || stop 4 "$outbox cannot be made"
for folder in "$photos" "$inbox" "$state/logs"; do
    mkdir -p "$folder" || stop 4 "$folder cannot be made"
done

# Two nights at once: the second leaves at once. The kernel drops this lock with its holder, so none is ever left behind.
# Where there is no flock, skinkit's own locks say the same (exit code 6) when it comes to writing.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$state/lock"
    flock -n 9 || stop 6 "another night is at work in $workspace"
    rm -rf "$state"/now.* "$photos/.incoming" # left by a night that was killed
fi

work=$state/now.$$
log=$state/logs/$stamp.jsonl
child=
finish() {
    rm -rf "$work"
}
interrupted() { # code, signal
    trap '' INT TERM HUP
    if [ -n "$child" ]; then
        kill -"$2" "$child" 2>/dev/null
        wait "$child"
    fi
    say "skinkit night: stopped by a signal; the next night goes on from here" >&2
    exit "$1"
}
trap finish EXIT
trap 'interrupted 130 INT' INT
trap 'interrupted 143 TERM' TERM
trap 'interrupted 129 HUP' HUP
mkdir -p "$work" || stop 4 "$work cannot be made"
find "$state/logs" -name '*.jsonl' -mtime "+$keep_days" -exec rm -f {} +

# ---- 1. new files --------------------------------------------------------------------------------------------------
# A file is taken once its inode has rested for so long (-cmin: the time of change cannot be set back by a copy). It goes
# under a hidden name first, which no cohort reads, and takes its name when every byte has arrived. A file of the same
# name with other content is kept in nightly/replaced. What cannot be moved stays where it is.
cat >"$work/take.sh" <<'TAKE'
inbox=$1 photos=$2 replaced=$3 work=$4
shift 4
for file in "$@"; do
    name=${file#"$inbox"/}
    target=$photos/$name
    hidden=$photos/.incoming/$$
    if [ -d "$target" ]; then
        echo "$name is the name of a folder in $photos" >&2
        echo . >>"$work/stuck"
        continue
    fi
    if [ -f "$target" ] && cmp -s "$file" "$target"; then
        rm -f "$file" && echo . >>"$work/twice"
        continue
    fi
    if mkdir -p "${target%/*}" && cp -p "$file" "$hidden" && cmp -s "$file" "$hidden"; then
        if [ -e "$target" ]; then
            old=$replaced/$name
            mkdir -p "${old%/*}" && cp -p "$target" "$old" || { echo . >>"$work/stuck"; continue; }
            echo . >>"$work/replaced"
        fi
        mv -f "$hidden" "$target" && rm -f "$file" && echo . >>"$work/taken" && continue
    fi
    rm -f "$hidden"
    echo . >>"$work/stuck"
done
TAKE
mkdir -p "$photos/.incoming" || stop 4 "$photos cannot be written to"
: >"$work/taken"
: >"$work/twice"
: >"$work/replaced"
: >"$work/stuck"
settled="+$settle"
[ "$settle" = 0 ] && settled=-999999999 # everything that is there
find "$inbox" -type f ! -name '.*' ! -path '*/.*' -cmin "$settled" \
    -exec sh "$work/take.sh" "$inbox" "$photos" "$state/replaced/$stamp" "$work" {} + 2>>"$work/take.err"
rm -rf "$photos/.incoming"
count() { wc -l <"$work/$1" | tr -d ' '; }
waiting=$(find "$inbox" -type f ! -name '.*' ! -path '*/.*' -exec sh -c 'for f; do echo .; done' sh {} + | wc -l | tr -d ' ')

# ---- 2. skinkit ----------------------------------------------------------------------------------------------------
worst=0
broke=
step() { # name, then the command; its answer is in $work/NAME.json
    name=$1
    shift
    "$skinkit" "$@" --workspace "$workspace" --json --log-format json \
        >"$work/$name.json" 2>>"$log" 9>&- &
    child=$!
    wait "$child"
    code=$?
    child=
    case $code in
    0) ;;
    3) [ -n "$broke" ] || worst=3 ;;
    *)
        broke=$name
        worst=$code
        return 1
        ;;
    esac
}
field() { # the value of a key in an answer, of the outermost or within its error
    sed -n "s/^ \{1,2\}\"$2\": \"\{0,1\}\(.*[^\",]\)\"\{0,1\},\{0,1\}\$/\1/p" "$work/$1.json" 2>/dev/null | head -n 1
}
# A table and the token that follows it wait in nightly/due until the table has its name in the outbox. A night that is
# stopped, or finds no outbox, leaves them there, and the next one goes on: no later table overtakes it.
table=
deliver() {
    [ -d "$state/due" ] || return 0
    if [ -f "$state/due/table.csv" ]; then
        table=$outbox/$(cat "$state/due/name")
        [ -d "$outbox" ] && cp "$state/due/table.csv" "$table.part" && mv -f "$table.part" "$table" || {
            rm -f "$table.part"
            return 1
        }
        rm -f "$state/due/table.csv"
    fi
    [ ! -f "$state/due/token" ] || mv -f "$state/due/token" "$state/token" || return 1
    rm -rf "$state/due" "$state/until"
}
deliver || { broke=outbox worst=4; }
since=
for file in until token; do # 'until' is a time, of a night before there were tokens
    [ -f "$state/$file" ] && since=$(cat "$state/$file")
done
jobs=${SKINKIT_JOBS:+--jobs $SKINKIT_JOBS}
# shellcheck disable=SC2086 # $jobs is two words or none
{
    step predict predict --cohort "$cohort" $jobs &&
        step explain explain --cohort "$cohort" $jobs &&
        step report report --for clinic --cohort "$cohort" $jobs &&
        [ ! -d "$state/due" ] &&
        step export export --cohort "$cohort" --csv "$work/table.csv" --encoding "$encoding" --crlf \
            ${since:+--since "$since"} ${SKINKIT_KEY:+--reidentify "$SKINKIT_KEY"}
}
new=$(field export rows)
if [ -z "$broke" ] && [ -n "$new" ]; then
    mkdir "$work/due" && field export token >"$work/due/token" && [ -s "$work/due/token" ] &&
        { [ "$new" -eq 0 ] || mv "$work/table.csv" "$work/due/table.csv"; } &&
        echo "skinkit-$stamp.csv" >"$work/due/name" && mv "$work/due" "$state/due" || { broke=state worst=4; }
    deliver || { broke=outbox worst=4; }
fi

# ---- 3. the summary ------------------------------------------------------------------------------------------------
case $worst in
0) verdict="done" ;;
3) verdict="done, with newly failed cases" ;;
6) verdict="busy: another skinkit writes in $workspace" ;;
*) verdict="NOT DONE: $broke ended with exit code $worst" ;;
esac
{
    say "skinkit night $stamp: $verdict"
    say ""
    say "files taken from the inbox:      $(count taken)"
    say "  of them in place of older ones: $(count replaced)   (kept in $state/replaced)"
    say "  there already, byte for byte:   $(count twice)"
    say "files still in the inbox:        $waiting   (younger than $settle minutes, or $(count stuck) that cannot be moved)"
    say "rows in the new table:           ${new:-none}"
    [ -n "$table" ] && say "  $table"
    [ -d "$state/due" ] && say "  waits for the outbox: the next night delivers it"
    failed=$(field predict newly_failed)
    say "cases that failed newly:         ${failed:-unknown}   (all of them: skinkit status --failed -w $workspace)"
    say "worklist:                        $workspace/artifacts/report/clinic-$cohort/index.html"
    say "log:                             $log"
    if [ -n "$broke" ] && [ -s "$work/$broke.json" ]; then
        say ""
        for key in found expected fix; do
            say "$key: $(field "$broke" "$key")"
        done
    fi
    [ -s "$work/take.err" ] && say "" && cat "$work/take.err"
    say ""
    say "Research software. Nothing it prints is a diagnosis."
} | tee "$state/summary.txt.part"
mv -f "$state/summary.txt.part" "$state/summary.txt"
exit "$worst"
