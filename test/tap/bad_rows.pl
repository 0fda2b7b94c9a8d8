# A user whose row cannot be written or read, or whose prompt cannot be built, is left out by every walk: the others are saved,
# brought back after a restart and purged, by the worker and by hand.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ChatDatabase;

my $node = new_server('bad', "prompt_cache.persist_naptime = '100ms'\nautovacuum = off\n");
load_chat($node, 'chat');
sub sql { return $node->safe_psql('chat', shift); }
sub sql_with_warnings
{
    my ($out, $err) = ('', '');
    $node->psql('chat', shift, stdout => \$out, stderr => \$err);
    return "$out|$err";
}
my $rows = 'SELECT count(*) FROM prompt_cache.user_prompt_cache WHERE replaced_at IS NULL';
my $in_memory = q{SELECT count(*) FROM prompt_cache.entries WHERE layer = 'user' AND valid};
my $problems = q{SELECT prompt_cache.health() -> 'worker' ->> 'problems'};

# Rows that cannot be written
sql(q{CREATE TABLE bad (user_id bigint); INSERT INTO bad VALUES (7), (30);
    CREATE FUNCTION public.fine(bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN NOT EXISTS (SELECT FROM public.bad WHERE user_id = $1); END';
    ALTER TABLE prompt_cache.user_prompt_cache ADD CONSTRAINT not_these CHECK (public.fine(user_id))});
is(exact($node, 'chat'), '60 of 60', 'all prompts are asked for');
ok($node->poll_query_until('chat', $rows, '58'), 'the worker saves all but two of them');
ok($node->poll_query_until('chat', qq{SELECT ($problems) ~ 'saving prompts to user_prompt_cache: 2 users left out, first user .* SQLSTATE 23514 .check_violation.; see the server log'}), 'health() says so');
like(slurp_file($node->logfile), qr/LOG:  prompt_cache: saving prompts.*: 2 users left out.*\n.*DETAIL:  .*not_these/, 'the server log has the words of the error');
unlike(sql('SELECT prompt_cache.health()'), qr/not_these/, 'which health() has not');
sql(q{UPDATE users SET system_prompt = 'new' WHERE user_id < 10; SELECT count(prompt_cache.prompt(user_id)) FROM users});
ok($node->poll_query_until('chat', q{SELECT count(*) = 8 FROM prompt_cache.user_prompt_cache WHERE cached_prompt LIKE '%new'}), 'and goes on to save what others change');
sql(q{UPDATE users SET system_prompt = 'newer' WHERE user_id < 10});
like(sql_with_warnings(q{SELECT count(prompt_cache.prompt(user_id)) FROM users; SELECT prompt_cache.flush() IS NOT NULL}),
    qr/t\|.*WARNING:  the prompts of 2 users were not saved.*first is user "(7|30)": SQLSTATE 23514 \(check_violation\)$/s, 'flush() warns of them');
is(sql(q{SELECT count(*) FROM prompt_cache.user_prompt_cache WHERE cached_prompt LIKE '%newer'}), '8', 'and saves the others');
sql('DELETE FROM bad WHERE user_id = 7');
like(sql_with_warnings('SELECT prompt_cache.flush()'), qr/\|.*WARNING:  the prompts of 1 users/s, 'flush() warns of who is left');
is(sql($rows), '59', 'and writes what can be written now, if the worker has not');
sql('TRUNCATE bad');
ok($node->poll_query_until('chat', $rows, '60'), 'and the worker tries again');
ok($node->poll_query_until('chat', qq{SELECT ($problems) = '[]'}), 'and health() has nothing to say');

# A row that cannot be read: its value lies in a file that is gone.
sql(q{UPDATE users SET system_prompt = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 600) n) WHERE user_id = 8;
    SELECT prompt_cache.prompt(8); SELECT prompt_cache.flush()});
is(exact($node, 'chat'), '60 of 60', 'all are exact');
my $toast = sql(q{SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE oid = 'prompt_cache.user_prompt_cache'::regclass});
cmp_ok(-s $node->data_dir . "/$toast", '>', 0, 'one value lies outside of its row');
$node->stop;
truncate($node->data_dir . "/$toast", 0) or die $!;
$node->start;
is(source_of($node, 'chat', 1), 'database', 'after a restart a prompt is asked for');
ok($node->poll_query_until('chat', "SELECT ($in_memory) = 59"), 'the worker brings back all but one');
ok($node->poll_query_until('chat', qq{SELECT ($problems) ~ '1 users left out, first user \\\\"8'}), 'and says which');
like(sql_with_warnings(q{SELECT prompt_cache.clear() > 0, prompt_cache.set_application_prompt('Application.'); SELECT prompt_cache.warm()}), qr/59\|.*user "8" was not brought/s, 'warm() does so too');
sql('SET prompt_cache.database = off; SELECT prompt_cache.prompt(8)');
is(sql("SELECT ($in_memory)"), '60', 'the one is built');
sql(q{SELECT count(prompt_cache.prompt(user_id)) FROM users; UPDATE users SET system_prompt = 'fine' WHERE user_id <> 8; SELECT count(prompt_cache.prompt(user_id)) FROM users WHERE user_id <> 8});
like(sql_with_warnings('SELECT prompt_cache.flush() IS NOT NULL'), qr/t\|.*1 users were not saved/s, 'flush() leaves it out');
is(sql(q{SELECT count(*) FROM prompt_cache.user_prompt_cache WHERE replaced_at IS NULL AND CASE WHEN user_id <> 8 THEN cached_prompt LIKE '%fine' END}), '59', 'and saves the others');
sql('DELETE FROM users WHERE user_id IN (5, 8, 11)');
like(sql_with_warnings('SELECT prompt_cache.flush() IS NOT NULL'), qr/^t\|/, 'flush() purges');
is(sql(q{SELECT string_agg(DISTINCT user_key, ',') FROM (SELECT user_key FROM prompt_cache.user_prompt_cache WHERE user_id IN (5, 8, 11) OFFSET 0) u}) =~ s/^8$//r, '', 'the rows of users that are gone, but for the bad one perhaps');
is(exact($node, 'chat'), '57 of 57', 'all prompts are exact');

# A prompt that cannot be built: text that points to no number.
$node->safe_psql('postgres', 'CREATE DATABASE unbuilt TEMPLATE template0');
$node->safe_psql('unbuilt', q{
    CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
    CREATE TABLE users (user_id bigint PRIMARY KEY, tenant_id text, system_prompt text);
    INSERT INTO tenants VALUES (1, 'T1'), (2, 'T2');
    INSERT INTO users SELECT u, 1 + u % 2, 'U' || u FROM generate_series(1, 20) u;
    CREATE EXTENSION prompt_cache;
    SELECT prompt_cache.attach(), prompt_cache.set_application_prompt('A');
    SELECT count(prompt_cache.prompt(user_id)) FROM users; SELECT prompt_cache.flush();
    UPDATE users SET tenant_id = 'x' WHERE user_id = 4;
    UPDATE users SET system_prompt = 'new' WHERE user_id > 15});
my ($code, undef, $err) = $node->psql('unbuilt', 'SELECT prompt_cache.prompt(4)');
like($err, qr/invalid input syntax for type bigint: "x"/, 'a prompt that cannot be built is an error for who asks for it');
my $warmed = '';
$node->psql('unbuilt', 'SELECT prompt_cache.warm()', stdout => \$warmed, stderr => \$err);
is($warmed, '19', 'warm() brings the others');
like($err, qr/WARNING:  the prompt of user "4" was not brought into memory: SQLSTATE 22P02 \(invalid_text_representation\)/, 'and names it');
($code, undef, $err) = $node->psql('unbuilt', q{SELECT prompt_cache.warm(ARRAY['1', '4'])});
like($err, qr/ERROR:  the prompt of user "4" was not brought into memory: SQLSTATE 22P02/, 'an error if it was asked for by name');
unlike($err, qr/"x"/, 'which shows nothing of its row');
is($node->safe_psql('unbuilt', q{SELECT prompt_cache.flush() >= 0; SELECT count(*) FROM prompt_cache.user_prompt_cache WHERE replaced_at IS NULL AND cached_prompt LIKE '%new'}), "t\n5", 'after flush() what was changed is saved');
$node->restart;
is($node->safe_psql('unbuilt', q{SELECT source FROM prompt_cache.get_or_build(20)}), 'database', 'what can be built');
ok($node->poll_query_until('unbuilt', "SELECT ($in_memory) = 19"), 'and the worker brings back all others');
$node->stop;

done_testing();
