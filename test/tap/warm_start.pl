# After a restart the workers bring saved prompts back into memory, those first that were in use, and up to warm_share; all of them,
# and those that clients ask for before, are exact, whatever was changed right before the server went down. FULL=1: 100 000 prompts.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use ChatDatabase;

my $users = $ENV{FULL} ? 100000 : 4000;
my ($size, $naptime) = $ENV{FULL} ? ('256MB', '1s') : ('16MB', '100ms');
my $node = new_server('warm', "autovacuum = off\nfsync = on\nprompt_cache.persist_naptime = '$naptime'\nprompt_cache.memory_size = '$size'\nprompt_cache.slots = 16384\n");
load_chat($node, 'chat');
load_chat($node, 'other');
sub sql { return $node->safe_psql('chat', shift); }
sql("INSERT INTO users SELECT u, 1 + u % 5, repeat('User ' || u || ' ', 20) FROM generate_series(61, $users) u");

my $sources = q{SELECT string_agg(source || ' ' || n, ', ' ORDER BY source) FROM (SELECT source, count(*) n FROM users u, prompt_cache.get_or_build(u.user_id) GROUP BY 1) s};
my $in_memory = q{SELECT count(*) FROM prompt_cache.entries WHERE layer = 'user' AND valid};
# Without asking for a user, which would bring him back: the worker alone has done it.
sub wait_for_memory
{
    my ($count) = @_;
    my $began = time;
    $node->poll_query_until('chat', qq{SELECT ($in_memory) >= $count});
    return time - $began;
}

is(exact($node, 'chat'), "$users of $users", 'all prompts are asked for');
sql('SELECT prompt_cache.flush()');
is(sql('SELECT count(*) FROM prompt_cache.user_prompt_cache WHERE replaced_at IS NULL'), $users, 'and saved');
is(exact($node, 'other'), '60 of 60', 'those of another database too');
$node->safe_psql('other', 'SELECT prompt_cache.flush()');

for my $mode (qw(fast immediate))
{
    # Changed right before: a user's prompt that was saved, one that nobody asked for since, a tenant's, one deleted, one rolled back.
    sql("UPDATE users SET system_prompt = 'before $mode' WHERE user_id = 100");
    my $after_edit = sql('SELECT prompt_cache.prompt(100)');
    sql(qq{SELECT prompt_cache.flush();
        UPDATE users SET system_prompt = 'unseen $mode' WHERE user_id IN (101, 102);
        UPDATE tenants SET system_prompt = 'tenant $mode' WHERE id = 5;
        DELETE FROM users WHERE user_id = 103;
        INSERT INTO users VALUES (103, 1, 'new $mode');
        BEGIN; UPDATE users SET system_prompt = 'never' WHERE user_id = 104; ROLLBACK});
    my $expected = sql(q{SELECT md5(string_agg(prompt_cache.build(user_id), '|' ORDER BY user_id)) FROM users});
    $node->stop($mode);
    $node->start;

    is(answer($node, 'chat', 100), "database|$after_edit", "$mode: the first answer is from the table");
    like(answer($node, 'chat', 101), qr/^built\|.*unseen $mode$/s, "$mode: and built where a prompt has changed since it was saved");
    is(answer($node, 'chat', 103) =~ /^built\|.*new $mode$/s, 1, "$mode: or its user is another one");
    my $took = wait_for_memory($users * 0.9);
    cmp_ok($took, '<', 10, "$mode: within ten seconds of the first call nine of ten are in memory");
    my $figure = sprintf '%s: nine of ten of %d after %.2f s', $mode, $users, $took;
    $ENV{FULL} ? diag($figure) : note($figure);
    sleep 0.5;
    my $seen = sql($sources);
    my ($hits) = $seen =~ /memory (\d+)/;
    cmp_ok($hits // 0, '>=', $users * 0.9, "$mode: and answer from there");
    unlike($seen, qr/built \d{3}/, "$mode: few are built");
    is(sql(q{SELECT md5(string_agg(prompt_cache.prompt(user_id), '|' ORDER BY user_id)) FROM users}), $expected, "$mode: all are what they were");
    is(exact($node, 'chat'), "$users of $users", "$mode: all are exact");
    is(sql('SELECT count(*) FROM prompt_cache.verify()'), '0', "$mode: and verify() finds nothing");
    is($node->safe_psql('other', $in_memory), '0', "$mode: a database in which nobody asks is left alone");
    is(source_of($node, 'other', 1), 'database', "$mode: until somebody does");
    ok($node->poll_query_until('other', "SELECT ($in_memory) = 60"), "$mode: then it is warm as well");
}

# Changes while clients and the worker bring prompts back.
sql('SELECT prompt_cache.flush()');
$node->restart;
my $editor = start_session($node, 'chat', join "\n",
    map { "UPDATE users SET system_prompt = 'while warming $_' WHERE user_id = " . ($users - 9 * $_) . ';' } 1 .. 300);
for (1 .. 8)
{
    is(exact($node, 'chat'), "$users of $users", "exact in the middle of warming, look $_");
}
my (undef, $err) = finish_session($editor);
is($err, '', 'edits in the middle of warming succeed');
is(exact($node, 'chat'), "$users of $users", 'exact after it');

# warm_share: not at all, and a little.
sql('SELECT prompt_cache.flush()');
$node->append_conf('postgresql.conf', 'prompt_cache.warm_share = 0');
$node->restart;
is(source_of($node, 'chat', 100), 'database', 'warm_share = 0: prompts are read from the table');
sleep 1.5;
is(sql($in_memory), '1', 'warm_share = 0: none but those asked for are brought back');

# Those in use first: of all that are brought back some are asked for again and again, and their rows are not the newest.
$node->append_conf('postgresql.conf', 'prompt_cache.warm_share = 50');
$node->restart;
is(source_of($node, 'chat', 100), 'database', 'a prompt is asked for, and the others brought back');
$node->poll_query_until('chat', qq{SELECT ($in_memory) >= $users * 0.9});
sleep 1.5;    # until the worker has ended
my $hot = 'SELECT u FROM generate_series(2001, 2100) u';
sql("SELECT count(prompt_cache.prompt(u)) FROM ($hot) h") for 1 .. 5;
sql('SELECT prompt_cache.flush()');
is(sql(qq{SELECT count(*) FROM (SELECT k::int FROM prompt_cache.usage_order, unnest(user_keys) WITH ORDINALITY u(k, n) ORDER BY rank, n LIMIT 100) o
    WHERE k IN ($hot)}), '100', 'the hottest lead the usage order');
my $written = 'SELECT md5(string_agg(ctid::text || xmin, $$,$$ ORDER BY rank)) FROM prompt_cache.usage_order';
my $before_flush = sql($written);
sql('SELECT prompt_cache.flush()');
is(sql($written), $before_flush, 'what has not changed is not written again');
my $entries = $ENV{FULL} ? 1 : 3;
$node->append_conf('postgresql.conf', "prompt_cache.warm_share = $entries");
for my $mode (qw(fast immediate))
{
    $node->stop($mode);
    $node->start;
    is(source_of($node, 'chat', 100), 'database', "$mode: a small warm_share: prompts are read from the table");
    $node->poll_query_until('chat', qq{SELECT ($in_memory) > 100});
    sleep 1.5;
    my $some = sql($in_memory);
    note("warm_share = $entries: $some");
    cmp_ok($some, '<', $users / 2, "$mode: a small warm_share: some are not brought back");
    is(sql(qq{SELECT count(*) FROM prompt_cache.entries WHERE layer = 'user' AND valid AND key IN (SELECT h.u::text FROM ($hot) h)}), '100', "$mode: a small warm_share: the hottest are");
}
is(sql(q{SELECT string_agg(DISTINCT source, ',') FROM generate_series(2001, 2100) u, prompt_cache.get_or_build(u)}), 'memory', 'a small warm_share: they are answered from there');
is(sql('SELECT prompt_cache.clear() > 0; SELECT prompt_cache.warm(max_users => 100)'), "t\n100", 'warm() brings as many');
is(sql(q{SELECT string_agg(DISTINCT source, ',') FROM generate_series(2001, 2100) u, prompt_cache.get_or_build(u)}), 'memory', 'the hottest too');
is(exact($node, 'chat'), "$users of $users", 'a small warm_share: all are exact');
unlike(slurp_file($node->logfile), qr/prompt_cache worker.*exited with exit code 1/, 'no worker has failed');
$node->stop;

done_testing();
