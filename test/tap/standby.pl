# A hot standby answers from memory, proved by stamps, and never with anything but what its snapshot sees: while changes
# are replayed, for long snapshots, across its restart and its promotion. It writes nothing.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $primary = new_server('primary', "autovacuum = off\n", allows_streaming => 1);
load_chat($primary, 'chat');
load_watch($primary, 'chat');
$primary->safe_psql('chat', 'CREATE TABLE messages (id bigserial PRIMARY KEY, body text)');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

sub on_primary
{
    my $out = $primary->safe_psql('chat', shift);
    $primary->wait_for_catchup($standby);
    return $out;
}

sub on_standby { return $standby->safe_psql('chat', shift); }

sub statistics { return on_standby("SELECT $_[0] FROM prompt_cache.stats WHERE namespace = 'prompt'"); }

my $prompt = "Application.\n\n--- Tenant Guidelines ---\nRules of tenant 3\n“be kind” 🙂\n\n--- User Preferences ---\nI am user 2\n— שלום";

# Hits and changes
on_primary('SELECT 1');
is(answer($standby, 'chat', 2), "built|$prompt", 'the first call on the standby builds');
is(answer($standby, 'chat', 2), "memory|$prompt", 'the second finds it in memory');
is(on_standby('SELECT valid FROM prompt_cache.entries WHERE layer = $$user$$ AND key = $$2$$'), 't', 'the entry is shown as valid');
is(source_of($standby, 'chat', 1234), 'built', 'an absent user is asked for');
is(answer($standby, 'chat', 1234), 'memory|', 'the absence is remembered');
on_primary('INSERT INTO messages (body) VALUES ($$x$$)');
is(source_of($standby, 'chat', 2), 'memory', 'another table\'s commit changes nothing');

on_primary(q{UPDATE users SET system_prompt = 'new text' WHERE user_id = 2; INSERT INTO users VALUES (1234, 1, 'newcomer')});
like(answer($standby, 'chat', 2), qr/^built\|.*new text$/s, 'a replayed change is seen');
like(answer($standby, 'chat', 2), qr/^memory\|.*new text$/s, 'and in memory from then on');
like(answer($standby, 'chat', 1234), qr/^built\|.*newcomer$/s, 'so is a user that was absent');

# A snapshot of before the replay
my $old = $standby->background_psql('chat');
my $ask = 'SELECT (g).prompt || CASE WHEN (g).prompt = prompt_cache.build(2) THEN $$ = $$ ELSE $$ <> $$ END FROM prompt_cache.get_or_build(2) g';
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $before = $old->query_safe($ask);
like($before, qr/new text = $/, 'a long snapshot reads the text of now');
on_primary(q{UPDATE users SET system_prompt = 'newer text' WHERE user_id = 2; UPDATE tenants SET system_prompt = 'newer rules' WHERE id = 3});
like(answer($standby, 'chat', 2), qr/newer rules.*newer text$/s, 'others see the change');
like(answer($standby, 'chat', 2), qr/^memory\|.*newer rules.*newer text$/s, 'others have it in memory');
is($old->query_safe($ask), $before, 'the long snapshot keeps the old text');
like(answer($standby, 'chat', 2), qr/newer rules.*newer text$/s, 'what it built is not given to others');
is($old->query_safe($ask), $before, 'the long snapshot keeps it again');
$old->query_safe('COMMIT');
like($old->query_safe($ask), qr/newer rules.*newer text = $/s, 'its next transaction sees the change');
is(exact($standby, 'chat'), '61 of 61', 'all prompts are exact');

# Nothing is written
for my $call ('flush()', 'invalidate_user(2)', 'invalidate_tenant_key($$3$$)', 'set_application_prompt($$x$$)')
{
    my ($code, undef, $err) = $standby->psql('chat', "\\set VERBOSITY verbose\nSELECT prompt_cache.$call");
    like($err, qr/ERROR:  25006/, "$call raises 25006");
    like($err, qr/HINT/, "$call: with a hint") if $call eq 'flush()';
}
is(source_of($standby, 'chat', 2), 'memory', 'which left memory as it was');
cmp_ok(on_standby('SELECT prompt_cache.clear()'), '>', 60, 'clear() empties the memory of the standby');
is(source_of($standby, 'chat', 2), 'built', 'so that the next call builds');
is($standby->safe_psql('chat', 'SELECT prompt_cache.health() ->> $$role$$'), 'standby', 'health() names the role');
my $hits = statistics('hits_memory');
my $builds = statistics('builds');
on_standby('SELECT prompt_cache.prompt(2)') for 1 .. 3;
is(statistics('hits_memory') - $hits, 3, 'stats counts the hits of the standby');
is(statistics('builds') - $builds, 0, 'and its builds');
is(on_standby('SELECT count(*) FROM prompt_cache.verify()'), '0', 'verify() finds nothing');

# The table as a tier
on_primary('SELECT count(prompt_cache.prompt_key(user_id::text)) FROM users; SELECT prompt_cache.flush()');
$standby->restart;
like(answer($standby, 'chat', 2), qr/^database\|.*newer rules.*newer text$/s, 'after a flush on the primary and a restart the table answers');
is(source_of($standby, 'chat', 2), 'memory', 'and then memory');
on_primary(q{UPDATE users SET system_prompt = 'after the flush' WHERE user_id IN (2, 6)});
like(answer($standby, 'chat', 2), qr/^built\|.*after the flush$/s, 'no old text from memory');
like(answer($standby, 'chat', 6), qr/^built\|.*after the flush$/s, 'nor from the table');
is(on_standby('SELECT count(*) FROM prompt_cache.verify()'), '0', 'verify() finds nothing');

# Under writers on the primary: rows, moves, an undone change, a subtransaction, DDL, VACUUM
my @writes = (
    q{UPDATE users SET system_prompt = clock_timestamp()::text WHERE user_id = 1 + (random() * 50)::int},
    q{BEGIN; UPDATE users SET system_prompt = 'both' || clock_timestamp() WHERE user_id = 7; UPDATE tenants SET system_prompt = 'both' || clock_timestamp() WHERE id = 3; COMMIT},
    q{UPDATE users SET tenant_id = 1 + (random() * 4)::int WHERE user_id = 9},
    q{BEGIN; SAVEPOINT a; UPDATE users SET system_prompt = 'undone' WHERE user_id <= 50; ROLLBACK TO a; UPDATE users SET system_prompt = NULL WHERE user_id = 11; COMMIT},
    q{BEGIN; UPDATE users SET system_prompt = 'never' WHERE user_id < 20; ROLLBACK},
    q{SELECT prompt_cache._compact_nonces()},
    q{VACUUM users; UPDATE users SET last_login = now()});
my $work = join(";\n", map { "$_;\nSELECT pg_sleep(0.02)" } (@writes) x 20) . ";\n";
my @readers = map { start_session($standby, 'chat', "CALL watch(4, 1, 60)") } 1 .. 2;
my ($out, $err) = run_session($primary, 'chat', "$work SELECT prompt_cache._compact_nonces();");
is($err, '', 'writers on the primary had no trouble');
is(on_primary('SELECT count(*) - count(DISTINCT tag), sum(weight) > count(*) FROM prompt_cache.tag_nonce'), '0|t', 'nonces were put together meanwhile');
for my $reader (@readers)
{
    ($out, $err) = finish_session($reader);
    my ($reads, $hits, $wrong) = split /\|/, $out;
    is($err, '', 'a reader on the standby had no trouble');
    is($wrong, 0, "every answer was exact ($out)");
    cmp_ok($reads, '>', 2000, 'it read a lot');
    cmp_ok($hits, '>', $reads / 2, 'mostly from memory');
}

# Promotion under readers, with a transaction prepared before it
on_primary(q{UPDATE users SET system_prompt = 'text of ' || user_id WHERE user_id > 50});
on_primary(q{BEGIN; UPDATE users SET system_prompt = 'prepared' WHERE user_id IN (52, 57); PREPARE TRANSACTION 'across'});
on_standby('SELECT prompt_cache.prompt(u), prompt_cache.prompt(u) FROM generate_series(1, 60) u');
is(source_of($standby, 'chat', $_), 'memory', "user $_ is in memory before the promotion") for 57, 58;
@readers = map { start_session($standby, 'chat', "CALL watch(4, 1, 50)") } 1 .. 2;
select(undef, undef, undef, 0.5);
$primary->stop('immediate');
$standby->promote;
like(answer($standby, 'chat', 57), qr/^built\|.*\btext of 57$/s, 'while a transaction of before is prepared nothing is cached')
    for 1 .. 2;
($out, $err) = run_session($standby, 'chat', join(";\n", @writes[ 0 .. 3 ], "COMMIT PREPARED 'across'", @writes[ 0 .. 3 ]));
is($err, '', 'the promoted server can be written to');
like(answer($standby, 'chat', 57), qr/\bprepared$/, 'the prepared change is seen once committed');
like(answer($standby, 'chat', 52), qr/\bprepared$/, 'for all its users');
like(answer($standby, 'chat', 57), qr/^memory\|.*prepared$/s, 'memory is used again');
is(source_of($standby, 'chat', 58), 'built', 'what stamps proved on the standby is not hit after the promotion');
is(source_of($standby, 'chat', 58), 'memory', 'but stored anew');
for my $reader (@readers)
{
    ($out, $err) = finish_session($reader);
    my ($reads, $hits, $wrong) = split /\|/, $out;
    is($err, '', 'a reader had no trouble with the promotion');
    is($wrong, 0, "every answer was exact ($out)");
}
is(exact($standby, 'chat'), '61 of 61', 'all prompts are exact after the promotion');
cmp_ok($standby->safe_psql('chat', 'SELECT prompt_cache.flush()'), '>', 0, 'and the table can be written');
is($standby->safe_psql('chat', 'SELECT prompt_cache.health() ->> $$role$$'), 'primary', 'health() names the new role');

$old->quit;
$standby->stop;
done_testing();
