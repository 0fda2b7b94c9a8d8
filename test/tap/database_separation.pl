# Databases of one server share the memory and nothing else: equal keys, databases made of others, and databases and
# extensions that are dropped while others read.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('databases', "autovacuum = off\n", install_path => $ENV{PROMPT_CACHE_TEST_BUILD});
sub sql { return $node->safe_psql(@_); }
sub postgres { return sql('postgres', shift); }
load_chat($node, $_) for 'one', 'two';
load_watch($node, 'two');
sql('one', q{CREATE FUNCTION consistent() RETURNS boolean LANGUAGE c AS '$libdir/prompt_cache', 'pc_consistent'});
my $usage = q{SELECT entries || ' entries, ' || bytes FROM prompt_cache.stats WHERE namespace = 'prompt'};
my $empty = sql('one', $usage);
like($empty, qr/^0 entries/, 'nothing is in memory');

# Equal keys
sql($_, qq{UPDATE users SET system_prompt = 'of $_' WHERE user_id = 2}) for 'one', 'two';
for my $source ('built', 'memory')
{
    like(answer($node, $_, 2), qr/^$source\|.*of $_$/s, "database $_ has its own text: $source") for 'one', 'two';
}
sql('one', q{UPDATE users SET system_prompt = 'changed' WHERE user_id = 2});
like(answer($node, 'two', 2), qr/^memory\|.*of two$/s, 'a change in one concerns no other');
like(answer($node, 'one', 2), qr/^built\|.*changed$/s, 'but the one');

# A database made of another, with its rows in the table of the durable tier and its nonces
sql('two', 'SELECT count(prompt_cache.prompt(user_id)) FROM users; SELECT prompt_cache.flush()');
postgres('CREATE DATABASE copy TEMPLATE two');
like(answer($node, 'copy', 2), qr/^database\|.*of two$/s, 'a copy answers from its table');
like(answer($node, 'copy', 2), qr/^memory\|.*of two$/s, 'and from memory');
sql('copy', q{UPDATE users SET system_prompt = 'of the copy' WHERE user_id = 2});
like(answer($node, 'copy', 2), qr/^built\|.*of the copy$/s, 'a change of the copy is seen');
like(answer($node, 'two', 2), qr/^memory\|.*of two$/s, 'there alone');
sql('two', q{UPDATE users SET system_prompt = 'of two again' WHERE user_id = 2});
like(answer($node, 'copy', 2), qr/^memory\|.*of the copy$/s, 'as is a change of the original');
is(exact($node, $_), '60 of 60', "all prompts of $_ are exact") for 'one', 'two', 'copy';
my $reads_name = q{SELECT unwatched_functions FROM prompt_cache.namespaces WHERE namespace = 'named'};
sql('copy', q{CREATE FUNCTION named(key text) RETURNS text STABLE LANGUAGE sql AS 'SELECT current_database()::text'; SELECT prompt_cache.create_namespace('named', 'named(text)', '1 h')});
is(sql('copy', q{SELECT prompt_cache.fetch('named', 'k')}), 'copy', 'a builder reads the name of its database');
is(sql('copy', $reads_name), '{current_database()}', 'which is reported');
postgres('ALTER DATABASE copy RENAME TO renamed');
is(sql('renamed', q{SELECT prompt_cache.fetch('named', 'k'), prompt_cache.rebuild('named', 'k')}), 'copy|renamed', 'the value lives on for its time, as reported');
is(sql('renamed', $reads_name), '{current_database()}', 'under the new name too');
like(answer($node, 'renamed', 2), qr/^memory\|.*of the copy$/s, 'another name changes nothing');

# DROP DATABASE gives its memory back, and a database of the same name starts anew
sql($_, 'SELECT prompt_cache.clear()') for 'one', 'two';
sql('one', 'SELECT prompt_cache.prompt(2)');
my ($before) = sql('one', $usage) =~ /, (\d+)/;
postgres('DROP DATABASE renamed');
my ($after) = sql('one', $usage) =~ /, (\d+)/;
cmp_ok($after, '<', $before, "DROP DATABASE gives memory back ($before, $after bytes)");
postgres('CREATE DATABASE renamed TEMPLATE two');
like(answer($node, 'renamed', 2), qr/of two again$/, 'a new database of the old name has its own text');
postgres('DROP DATABASE renamed');
sql($_, 'SELECT prompt_cache.clear()') for 'one', 'two';
is(sql('one', $usage), '0 entries, 0', 'nothing is left of them');

# Dropped under readers, who are thrown out in the middle of lookups and stores
for my $round (1 .. 5)
{
    postgres('CREATE DATABASE dropped TEMPLATE two');
    sql('dropped', q{SELECT prompt_cache.clear()});
    my @readers = map { start_session($node, 'dropped', 'CALL watch(20, 1, 60)') } 1 .. 3;
    my $writer = start_session($node, 'dropped', "UPDATE users SET system_prompt = clock_timestamp()::text;\n" x 10000);
    $node->poll_query_until('postgres', q{SELECT count(*) = 4 FROM pg_stat_activity WHERE datname = 'dropped' AND state = 'active'});
    select(undef, undef, undef, 0.1 * $round);
    postgres('DROP DATABASE dropped WITH (FORCE)');
    finish_session($_) for @readers, $writer;
}
is(sql('one', 'SELECT consistent()'), 't', 'all accounts agree');
sql($_, 'SELECT prompt_cache.clear()') for 'one', 'two';
my $left = sql('one', $usage);
is($left, '0 entries, 0', 'no entry of a dropped database is left');

# The extension goes while others read, and comes again
my @readers = map { start_session($node, 'two', 'CALL watch(3, 1, 60)') } 1 .. 2;
$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = 'two' AND state = 'active'});
sql('two', q{UPDATE users SET system_prompt = 'after the extension' WHERE user_id = 2; SELECT pg_sleep(0.2); DROP EXTENSION prompt_cache});
for my $reader (@readers)
{
    my ($out, $err) = finish_session($reader);
    like($err, qr/ERROR:.*(prompt_cache.*does not exist|deadlock detected)/, 'readers are told so');
    unlike($err, qr/cache lookup failed|could not open relation/, 'in plain words');
}
like(sql('two', q{SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal}), qr/^0$/, 'its triggers are gone');
sql('two', q{UPDATE users SET system_prompt = 'without the extension' WHERE user_id = 2;
    CREATE EXTENSION prompt_cache; SELECT prompt_cache.attach(), prompt_cache.set_application_prompt('Application.')});
like(answer($node, 'two', 2), qr/^built\|.*without the extension$/s, 'a change of the meantime is seen');
is(exact($node, 'two'), '60 of 60', 'all prompts are exact');
sql($_, 'SELECT prompt_cache.clear()') for 'one', 'two';
is(sql('one', $usage), $left, 'every byte is given back');
is(sql('one', 'SELECT consistent()'), 't', 'all accounts agree');

$node->stop;
done_testing();
