"""perl: hashes, strings, regular expressions, sorting and fork."""

import unittest

from support import ProgramTest

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


class Perl(ProgramTest):
    def test_same_output(self):
        script = self.write("work.pl", SCRIPT)
        output, _ = self.compare(["perl", script], env={"PERL_HASH_SEED": "0"})
        self.assertIn("30000 records\n", output)
        self.assertIn("child 6: ", output)

    def test_loaded(self):
        self.assert_runs_on_arenal("perl", "-e", "exit 0")


if __name__ == "__main__":
    unittest.main()
