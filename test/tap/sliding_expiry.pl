# Sliding expiry: what is hit stays, what is not goes, memory_ttl is the ceiling. What an entry was made from, and a time to live of its own,
# end it however often it is hit.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('sliding', "autovacuum = off\n");
$node->safe_psql('postgres', 'CREATE DATABASE sliding');
sub sql { return $node->safe_psql('sliding', shift); }
sql(q{CREATE EXTENSION prompt_cache;
    CREATE FUNCTION same(key text) RETURNS text LANGUAGE sql STABLE AS 'SELECT key';
    CREATE FUNCTION inner_of(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'of ' || prompt_cache.fetch('short', key) $$;
    SELECT prompt_cache.create_namespace('sliding', 'same(text)', '3 s', sliding => true), prompt_cache.create_namespace('fixed', 'same(text)', '3 s'),
           prompt_cache.create_namespace('short', 'same(text)', '2 s'), prompt_cache.create_namespace('outer', 'inner_of(text)', '3 s', sliding => true)});

# How long, in seconds, a key is hit that is asked for all the while; at most so many.
sub lasts
{
    my ($most, %keys) = @_;
    my %lasted;
    my $began = time;
    while (keys %lasted < keys %keys && time - $began < $most)
    {
        for my $name (grep { !defined $lasted{$_} } keys %keys)
        {
            $lasted{$name} = time - $began if sql("SELECT (prompt_cache.get('$name', '$keys{$name}')).found") eq 'f';
        }
        sleep 0.1;
    }
    $lasted{$_} //= $most for keys %keys;
    return %lasted;
}
my $left = q{SELECT round(extract(epoch FROM expires_at - clock_timestamp())) FROM prompt_cache.entries WHERE namespace = '%s' AND key = '%s' AND valid};

sql(q{SELECT prompt_cache.fetch(n, k) FROM unnest('{sliding,fixed}'::text[]) n, unnest('{hit,cold}'::text[]) k; SELECT prompt_cache.fetch('outer', 'hit');
      SELECT prompt_cache.put('sliding', 'own', prompt_cache.rebuild('sliding', 'own'), '2 s')});
my %lasted = lasts(8, sliding => 'hit', fixed => 'hit', outer => 'hit');
is($lasted{sliding}, 8, 'a value that is hit stays');
cmp_ok($lasted{fixed}, '<', 4.5, 'where expiry slides, and not elsewhere');
cmp_ok($lasted{fixed}, '>', 2, 'and not too early there');
cmp_ok($lasted{outer}, '<', 3.5, 'but no longer than what it was made from would have lasted');
cmp_ok($lasted{outer}, '>', 1.5, 'and as long');
is(sql(sprintf $left, 'sliding', 'cold'), '', 'one that is not hit goes');
like(sql(sprintf $left, 'sliding', 'hit'), qr/^[23]$/, 'the end of one that is hit is put off, by its time to live');
sql(q{SELECT prompt_cache.put('sliding', 'own', prompt_cache.rebuild('sliding', 'own'), '2 s')});
%lasted = lasts(5, sliding => 'own');
cmp_ok($lasted{sliding}, '<', 3.5, 'a time to live of its own is not put off');
cmp_ok($lasted{sliding}, '>', 1.5, 'and kept');

# The ceiling
sql(q{ALTER SYSTEM SET prompt_cache.memory_ttl = '5s'});
$node->reload;
$node->poll_query_until('sliding', q{SELECT current_setting('prompt_cache.memory_ttl') = '5s'}) or die;
sql(q{SELECT prompt_cache.forget_namespace('sliding'); SELECT prompt_cache.fetch('sliding', 'hit')});
%lasted = lasts(9, sliding => 'hit');
cmp_ok($lasted{sliding}, '<', 6.5, 'memory_ttl is the ceiling');
cmp_ok($lasted{sliding}, '>', 4, 'and it lasts until then');
$node->stop;

done_testing();
