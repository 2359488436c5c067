"""perl: hashes, strings, regular expressions, sorting and fork; threads, each with a copy of all data."""


from support import ProgramTest, main

SCRIPT = r"""
use strict; use warnings;
my (%seen, @records);
my $x = 12345;
sub next_random { $x = ($x * 1103515245 + 12345) % 2147483648; return $x }
for my $i (1 .. 30000) {
    my $key = sprintf("%08x", next_random());
    $seen{substr($key, 0, 4)}{$key} = [$i, "x" x ($i % 300)];
    push @records, { id => $i, key => $key, tail => [1 .. $i % 7] };
}
printf "%d groups, %d records\n", scalar(keys %seen), scalar(@records);
my @sorted = sort { $a->{key} cmp $b->{key} || $a->{id} <=> $b->{id} } @records;
print join(",", map { "$_->{id}:$_->{key}" } @sorted[0 .. 20]), "\n";
delete $seen{$_} for grep { hex($_) % 2 } keys %seen;
printf "%d groups are left\n", scalar(keys %seen);

my $text = join(" ", map { $_->{key} } @records);
my $letters = () = $text =~ /([a-f]+)/g;
(my $changed = $text) =~ s/([0-9]+)/<$1>/g;
printf "%d runs of letters, %d characters, %d after substitution\n", $letters, length($text), length($changed);
my @parts = split /[0-4]/, $text;
printf "%d parts\n", scalar(@parts);

# Children that go on with the parent's memory.
for my $n (1 .. 6) {
    pipe(my $reader, my $writer) or die;
    my $child = fork() // die;
    if (!$child) {
        close $reader;
        my %copy = map { $_->{key} => "$_->{id}" x $n } @records;
        print $writer length(join "", values %copy), "\n";
        close $writer;
        exit 0;
    }
    close $writer;
    print "child $n: ", <$reader>;
    waitpid($child, 0);
    die "child failed: $?" if $?;
}
my $big = "";
$big .= chr(65 + $_ % 26) x 1000 for 1 .. 20000;
printf "%d %s\n", length($big), unpack("%32C*", $big);
"""


THREADS = r"""
use strict; use warnings; use threads; use threads::shared; use Thread::Queue;
my %data = map { ("key$_" => [map { "text $_" } 1 .. $_ % 9]) } 1 .. 3000;
my %found :shared;
my $queue = Thread::Queue->new(1 .. 200);
$queue->end;
for my $round (1 .. 3) {
    my @threads = map { my $n = $_; threads->create(sub {
        my $sum = 0;
        while (defined(my $item = $queue->dequeue_nb)) { lock(%found); $found{$item} = "$item" x ($item % 20); }
        $sum += length(join "", map { @{$data{$_}} } grep { /$n/ } sort keys %data) for 1 .. 3;
        $data{"own$n"} = ["x" x 100000];
        return $sum;
    }) } 1 .. 6;
    print join(" ", map { $_->join } @threads), "\n";
}
print scalar(keys %found), " ", length(join "", values %found), " ", scalar(keys %data), "\n";
"""


class Perl(ProgramTest):
    package = "perl"
    needs = ("perl",)

    def work(self, run):
        output = run.command("perl", run.write("work.pl", SCRIPT), env={"PERL_HASH_SEED": "0"}).out
        self.assertIn("30000 records\n", output)
        self.assertIn("child 6: ", output)
        run.assert_loads("perl", "-e", "exit 0")
        return output + run.command("perl", run.write("threads.pl", THREADS)).out


if __name__ == "__main__":
    main()
