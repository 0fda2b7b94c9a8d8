# A subscriber of logical replication: the initial copy, applied rows, TRUNCATE, streamed and prepared transactions
# invalidate like local writes, though ordinary triggers do not fire for them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $conf = "autovacuum = off\nlogical_decoding_work_mem = 64kB\n";
my $publisher = new_server('publisher', $conf, allows_streaming => 'logical');
my $subscriber = new_server('subscriber', $conf, allows_streaming => 'logical');

# A trigger that runs before ours, in the apply worker, and reads the row that is just being changed
my $nosy = q{
    CREATE TABLE seen (prompt text, built text);
    CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.seen VALUES (prompt_cache.prompt(new.user_id), prompt_cache.build(new.user_id)); RETURN NULL; END $$;
    CREATE TRIGGER a_first AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION look();
    ALTER TABLE users ENABLE ALWAYS TRIGGER a_first};
my $parted = q{
    CREATE TABLE parts (id bigint PRIMARY KEY, system_prompt text) PARTITION BY RANGE (id);
    CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (1) TO (10);
    CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (20)};

for my $node ($publisher, $subscriber)
{
    load_chat($node, 'chat');
    $node->safe_psql('postgres', 'CREATE DATABASE parted');
    $node->safe_psql('parted', $parted);
}
load_watch($subscriber, 'chat');
$publisher->safe_psql('chat', q{UPDATE users SET system_prompt = system_prompt || ' of the publisher'; CREATE PUBLICATION chat FOR TABLE users, tenants});
$publisher->safe_psql('parted', q{INSERT INTO parts SELECT i, 'part ' || i FROM generate_series(1, 19) i; CREATE PUBLICATION parted FOR TABLE parts});
$subscriber->safe_psql('parted', q{CREATE EXTENSION prompt_cache; SELECT prompt_cache.attach('parts', NULL)});

sub on_publisher
{
    my $out = $publisher->safe_psql('chat', shift);
    $publisher->wait_for_catchup('chat');
    return $out;
}
sub on_subscriber { return $subscriber->safe_psql('chat', shift); }
sub asked { return answer($subscriber, 'chat', shift); }

# What was there before, and the initial copy
on_subscriber('SELECT count(prompt_cache.prompt(u)) FROM generate_series(1, 60) u; SELECT prompt_cache.flush(); TRUNCATE users, tenants');
is(asked(2), 'built|', 'TRUNCATE on the subscriber is seen');
is(asked(2), 'memory|', 'and the absence is remembered');
on_subscriber("CREATE SUBSCRIPTION chat CONNECTION '" . $publisher->connstr . " dbname=chat' PUBLICATION chat WITH (streaming = on, two_phase = on)");
$subscriber->safe_psql('parted', "CREATE SUBSCRIPTION parted CONNECTION '" . $publisher->connstr . " dbname=parted' PUBLICATION parted");
$subscriber->wait_for_subscription_sync($publisher, 'chat', 'chat');
$subscriber->wait_for_subscription_sync($publisher, 'parted', 'parted');
like(asked(2), qr/^built\|.*of the publisher$/s, 'the initial copy is seen');
like(asked(2), qr/^memory\|.*of the publisher$/s, 'and cached');
is(exact($subscriber, 'chat'), '60 of 60', 'all prompts are exact');

# Rows
on_publisher(q{UPDATE users SET system_prompt = 'applied' WHERE user_id = 2});
like(asked(2), qr/^built\|.*applied$/s, 'an applied UPDATE is seen');
like(asked(2), qr/^memory\|.*applied$/s, 'and cached');
on_publisher('UPDATE users SET last_login = now()');
like(asked(2), qr/^memory\|/, 'another column invalidates nothing');
is(asked(61), 'built|', 'an absent user');
on_publisher(q{BEGIN; INSERT INTO users VALUES (61, 3, 'inserted'); DELETE FROM users WHERE user_id = 5;
    UPDATE users SET user_id = 62 WHERE user_id = 6; UPDATE users SET tenant_id = 4 WHERE user_id = 2;
    UPDATE tenants SET system_prompt = 'rules of four' WHERE id = 4; COMMIT});
like(asked(61), qr/inserted$/, 'an applied INSERT is seen');
is(asked(5), 'built|', 'a DELETE');
is(asked(6), 'built|', 'a key that changes, the old');
like(asked(62), qr/user 6\n/, 'and the new');
like(asked(2), qr/rules of four.*applied$/s, 'a user that moves to a changed tenant');
is(exact($subscriber, 'chat'), '60 of 60', 'all prompts are exact');

on_subscriber($nosy);
like(asked(2), qr/applied$/, 'a user is asked for');
like(asked(2), qr/^memory\|.*applied$/s, 'and cached');
on_publisher(q{UPDATE users SET system_prompt = 'read while applied' WHERE user_id = 2});
is(on_subscriber('SELECT count(*), count(*) FILTER (WHERE prompt = built), min(right(prompt, 18)) FROM seen'),
    '1|1|read while applied', 'a trigger in the apply worker reads what it has just written');
like(asked(2), qr/read while applied$/, 'so do others');
on_subscriber('DROP TRIGGER a_first ON users');

# Streamed while it runs (the change is larger than logical_decoding_work_mem), with half of it undone
on_subscriber('SELECT count(prompt_cache.prompt(u)) FROM generate_series(1, 60) u');
on_publisher(q{BEGIN; UPDATE users SET system_prompt = 'large ' || user_id || (SELECT string_agg(md5(user_id::text || i), '') FROM generate_series(1, 100) i);
    SAVEPOINT a; UPDATE users SET system_prompt = 'undone'; ROLLBACK TO a; COMMIT});
cmp_ok($publisher->safe_psql('chat', q{SELECT stream_count FROM pg_stat_replication_slots WHERE slot_name = 'chat'}), '>', 0, 'a transaction was streamed');
like(asked(2), qr/large 2[0-9a-f]{3200}$/, 'a streamed transaction is seen');
is(exact($subscriber, 'chat'), '60 of 60', 'all prompts are exact');

# TRUNCATE, of a table and of a partition, whose statement triggers do not exist
on_publisher('TRUNCATE users');
is(asked(2), 'built|', 'an applied TRUNCATE is seen');
on_publisher(q{INSERT INTO users SELECT u, 1 + u % 5, 'again ' || u FROM generate_series(1, 60) u});
like(asked(2), qr/again 2$/, 'and what comes after it');
my @low = map { $subscriber->safe_psql('parted', "SELECT source, prompt FROM prompt_cache.get_or_build($_)") } 3, 13, 3, 13;
is("@low", "built|--- User Preferences ---\npart 3 built|--- User Preferences ---\npart 13 memory|--- User Preferences ---\npart 3 memory|--- User Preferences ---\npart 13",
    'users in partitions are cached');
$publisher->safe_psql('parted', q{TRUNCATE parts_low; UPDATE parts SET system_prompt = 'changed' WHERE id = 13});
$publisher->wait_for_catchup('parted');
is($subscriber->safe_psql('parted', 'SELECT source, prompt FROM prompt_cache.get_or_build(3)'), 'built|', 'TRUNCATE of a partition is seen');
like($subscriber->safe_psql('parted', 'SELECT prompt FROM prompt_cache.get_or_build(13)'), qr/changed$/, 'and a change in another');

# Prepared on the publisher, so prepared on the subscriber, which crashes
on_subscriber('SELECT count(prompt_cache.prompt(u)) FROM generate_series(1, 60) u; SELECT prompt_cache.flush()');
on_publisher(q{BEGIN; UPDATE users SET system_prompt = 'prepared' WHERE user_id = 2; PREPARE TRANSACTION 'far'});
is(on_subscriber('SELECT count(*) FROM pg_prepared_xacts'), '1', 'the transaction is prepared on the subscriber');
like(asked(2), qr/^memory\|.*again 2$/s, 'and not seen');
$subscriber->stop('immediate');
$subscriber->start;
like(asked(2), qr/^built\|.*again 2$/s, 'nor after a crash');
on_publisher(q{COMMIT PREPARED 'far'});
like(asked(2), qr/prepared$/, 'but when it is committed');
is(exact($subscriber, 'chat'), '60 of 60', 'all prompts are exact');

# Changes that are applied after the subscriber was down
on_subscriber('SELECT count(prompt_cache.prompt(u)) FROM generate_series(1, 60) u; SELECT prompt_cache.flush()');
$subscriber->stop;
$publisher->safe_psql('chat', q{UPDATE users SET system_prompt = 'while it was down' WHERE user_id = 2});
$subscriber->start;
$publisher->wait_for_catchup('chat');
like(asked(2), qr/^built\|.*while it was down$/s, 'the table does not answer with a text of before');
is(source_of($subscriber, 'chat', 3), 'database', 'but for users that did not change');

# Triggers that are off, and on again as ordinary ones, which apply skips
for my $state ('DISABLE', 'ENABLE')
{
    on_subscriber("ALTER TABLE users $state TRIGGER ALL");
    is(on_subscriber(q{SELECT prompt_cache.health() ->> 'status'}), 'critical', "health() is critical after $state TRIGGER ALL");
    on_publisher("UPDATE users SET system_prompt = 'after $state' WHERE user_id = 2");
    like(asked(2), qr/^built\|.*after $state$/s, "exact, and not from memory, $_ call") for 'first', 'second';
}
on_subscriber('SELECT prompt_cache.flush()');
is(on_subscriber(q{SELECT prompt_cache.health() ->> 'status'}), 'ok', 'flush() has repaired it');
like(asked(2), qr/after ENABLE$/, 'it is exact again');
like(asked(2), qr/^memory\|.*after ENABLE$/s, 'and cached');

# The oracle while changes are applied
my @readers = map { start_session($subscriber, 'chat', 'CALL watch(3, 1, 60)') } 1 .. 2;
$publisher->safe_psql('chat', join ";\n", ((
    q{UPDATE users SET system_prompt = clock_timestamp()::text WHERE user_id = 1 + (random() * 59)::int},
    q{BEGIN; UPDATE users SET system_prompt = 'both' || clock_timestamp() WHERE user_id = 7; UPDATE tenants SET system_prompt = 'both' || clock_timestamp() WHERE id = 3; COMMIT},
    q{DELETE FROM users WHERE user_id = 9}, q{INSERT INTO users VALUES (9, 2, now()::text)}, 'SELECT pg_sleep(0.02)') x 60));
for my $reader (@readers)
{
    my ($out, $err) = finish_session($reader);
    my ($reads, $hits, $wrong) = split /\|/, $out;
    is($err, '', 'a reader on the subscriber had no trouble');
    is($wrong, 0, "every answer was exact ($out)");
    cmp_ok($hits, '>', $reads / 2, 'mostly from memory');
}
$publisher->wait_for_catchup('chat');
is(exact($subscriber, 'chat'), '60 of 60', 'all prompts are exact');

$subscriber->stop;
$publisher->stop;
done_testing();
