#!/bin/sh
# greedy.sh INCLUDE_DIRECTORY: prints, for every function at namespace scope in the headers, a template of that name that
# takes anything and does not compile for anything. Where the library calls a function without saying whose, and an
# argument is of a type of the user's, the compiler looks at the functions of the user's namespace too, and finds these.
# Functions of ours begin in the first column: clang-format does not indent namespaces.
set -eu
find "$1" -name '*.hpp' -exec cat {} + |
    grep -v -E '^([ #/}]|$|(template|class|struct|enum|using|requires|concept|namespace|static_assert|friend)([ <(]|$))' |
    sed -e 's/decltype(auto)//g' -e 's/__attribute__(([^)]*))//g' |
    sed -n -E 's/^([^(]*[ *&>])?([a-z][a-z0-9_]*)\(.*/\2/p' |
    grep -v -x -E "requires|sizeof|moe_error_handler" |
    sort -u |
    sed -e 's/.*/template <class... A>\ntypename Found<A...>::type &(A\&\&...);/'
