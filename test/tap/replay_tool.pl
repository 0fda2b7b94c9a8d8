# A namespace with max_entries hits as often as the replay tool says that its policy does: the server plays a trace over one connection, the
# tool plays it through the same code without a server. Up to 512 entries, where the two policies are played on all keys, both are
# nearly the same each time; above, on a sample of them, they vary by half a percent. TRACES="file:capacity,capacity file:..." adds others.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $replay = "$FindBin::RealBin/../replay";
my $node = new_server('replay', "autovacuum = off\n");
$node->safe_psql('postgres', 'CREATE DATABASE replay');
sub sql { return $node->safe_psql('replay', shift); }
sql(q{CREATE EXTENSION prompt_cache;
    CREATE FUNCTION same(key text) RETURNS text LANGUAGE sql STABLE AS 'SELECT key';
    CREATE TABLE trace (n serial PRIMARY KEY, key text)});

# Keys of Zipf's law, hot ones changing slowly, and now and then a scan of keys that come once: where either policy may lead.
sub zipf_with_scans
{
    my ($requests, $keys, $skew) = @_;
    srand(42);
    my (@sums, @trace);
    my $sum = 0;
    push @sums, $sum += 1 / $_**$skew for 1 .. $keys;
    my ($once, $drift) = (0, 0);
    while (@trace < $requests)
    {
        my ($low, $high, $x) = (0, $keys - 1, rand($sum));
        while ($low < $high) { my $middle = int(($low + $high) / 2); if ($sums[$middle] < $x) { $low = $middle + 1; } else { $high = $middle; } }
        $drift++ if @trace % 40 == 0;
        push @trace, 'k' . ($low * 7919 + $drift) % $keys;
        if (rand() < 0.0005) { push @trace, 'once' . $once++ for 1 .. 200; }
    }
    return @trace;
}

sub compare
{
    my ($name, $file, @capacities) = @_;
    sql('TRUNCATE trace RESTART IDENTITY');
    my @keys = map { (split ' ')[0] } grep { /\S/ } split /\n/, slurp_file($file);
    open(my $copy, '>', "$folder/copy.sql") or die;
    print $copy "COPY trace (key) FROM stdin;\n", join("\n", @keys), "\n\\.\n";
    close $copy;
    $node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('replay'), '-f', "$folder/copy.sql" ], "$name: " . @keys . ' requests');
    for my $capacity (@capacities)
    {
        my ($out) = run_command([ $replay, $file, $capacity ]);
        my ($requests, $target) = $out =~ /^requests=(\d+) hits=(\d+)$/ or die "replay: $out";
        sql(qq{SELECT prompt_cache.create_namespace('replayed', 'same(text)', '0', $capacity)});
        sql(qq{DO \$\$ DECLARE k text; BEGIN FOR k IN SELECT key FROM trace ORDER BY n LOOP PERFORM prompt_cache.fetch('replayed', k); END LOOP; END \$\$});
        my ($lookups, $hits, $entries) = split /\|/, sql("SELECT lookups, hits_memory, entries FROM prompt_cache.stats WHERE namespace = 'replayed'");
        sql("SELECT prompt_cache.drop_namespace('replayed')");
        is($lookups, $requests, "$name, $capacity entries: all requests were counted");
        cmp_ok($entries, '<=', $capacity, "and never more entries ($entries)");
        cmp_ok($hits, '>=', 0.995 * $target, "$hits hits; the tool has $target");
    }
    return;
}

open(my $handle, '>', "$folder/zipf") or die;
print $handle map { "$_\n" } zipf_with_scans(30000, 4000, 0.9);
close $handle;
compare('Zipf with scans', "$folder/zipf", 40, 200, 500);
for (split ' ', $ENV{TRACES} // '')
{
    my ($file, $capacities) = split /:/;
    compare($file =~ s|.*/||r, $file, split /,/, $capacities);
}
$node->stop;

done_testing();
