"""Erlang: processes that send binaries to each other on several schedulers, tables, and ports to programs outside."""

from support import ProgramTest, main

SOURCE = r"""
-module(work).
-export([main/0]).
work(N) ->
    Table = ets:new(t, [set]),
    [ets:insert(Table, {I, binary:copy(<<"x">>, I rem 500)}) || I <- lists:seq(1, 2000)],
    Sum = ets:foldl(fun({_, B}, S) -> S + byte_size(B) end, 0, Table),
    Data = [{N, I, integer_to_list(I), crypto(I)} || I <- lists:seq(1, 500)],
    Packed = zlib:compress(term_to_binary(Data)),
    Data = binary_to_term(zlib:uncompress(Packed)),
    {N, Sum, erlang:md5(term_to_binary(Data))}.
crypto(I) -> erlang:md5(integer_to_binary(I)).
main() ->
    Self = self(),
    Pids = [spawn_monitor(fun() -> Self ! {self(), work(N)} end) || N <- lists:seq(1, 40)],
    Found = [receive {P, R} -> R end || {P, _} <- Pids],
    Large = [receive {big, B} -> byte_size(B) end || N <- lists:seq(1, 50),
             begin spawn(fun() -> Self ! {big, binary:copy(<<1:64>>, N * 10000)} end), true end],
    {ok, Pattern} = re:compile("[0-9]+[a-f]+"),
    Text = lists:flatten([io_lib:format("~2.16.0b", [X]) || {_, _, M} <- Found, X <- binary_to_list(M)]),
    {match, Matches} = re:run(Text, Pattern, [global]),
    io:format("~p ~p ~p~n", [erlang:phash2(Found), length(Matches), lists:sum(Large)]),
    io:format("~s", [os:cmd("echo from outside")]),
    io:format("~p~n", [catch work_that_fails:at_all()]),
    halt(0).
"""


class Erlang(ProgramTest):
    package = "erlang-base"
    needs = ("erl", "erlc")

    def work(self, run):
        run.write("work.erl", SOURCE)
        run.command("erlc", "work.erl")
        run.memory = 0
        outputs = [run.command("erl", "-noshell", "-noinput", "+S", "4:4", *options, "-s", "work", "main").out
                   for options in ([], ["+Mea", "min"])]
        # With +Mea min, everything that can be is malloc's.
        self.assertEqual(len(set(outputs)), 1)
        return outputs[0]


if __name__ == "__main__":
    main()
