# Prompts are edited all the time: what the edits leave behind is put together and given back, and nobody keeps more history than
# he should. FULL=1: a million edits and a nap of a second, so a minute of idling; else a twentieth of both.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use ChatDatabase;

my ($edits, $naptime, $idle) = $ENV{FULL} ? (1000000, '1s', 60) : (50000, '50ms', 3);
my $node = new_server('churn', "prompt_cache.persist_naptime = '$naptime'\nfsync = off\nprompt_cache.history = 3\n");
load_chat($node, 'chat');
$node->safe_psql('chat', q{
    INSERT INTO users SELECT u, 1 + u % 5, 'u' FROM generate_series(61, 1000) u;
    CREATE PROCEDURE edit(edits int) LANGUAGE plpgsql AS $$
    BEGIN FOR i IN 1..edits LOOP
        UPDATE users SET system_prompt = 'edit ' || i WHERE user_id = 1 + floor(random() * 1000)::int; COMMIT;
    END LOOP; END $$;
    CREATE PROCEDURE look(seconds float) LANGUAGE plpgsql AS $$
    DECLARE final timestamptz := clock_timestamp() + seconds * interval '1 s';
    BEGIN WHILE clock_timestamp() < final LOOP
        IF EXISTS (SELECT FROM generate_series(1, 100), LATERAL (SELECT 1 + floor(random() * 1000)::int AS u) r WHERE prompt_cache.prompt(u) <> prompt_cache.build(u)) THEN
            RAISE EXCEPTION 'wrong answer';
        END IF;
        COMMIT; END LOOP; END $$});

my $began = time;
my @writers = map { start_session($node, 'chat', 'CALL edit(' . $edits / 2 . ')') } 1 .. 2;
my $most = 0;
do
{
    my (undef, $err) = run_session($node, 'chat', 'CALL look(1)');
    is($err, '', 'answers are exact meanwhile') if $err;
    my $now = $node->safe_psql('chat', 'SELECT pg_total_relation_size($$prompt_cache.tag_nonce$$)');
    $most = $now if $now > $most;
    is($node->safe_psql('chat', 'SELECT coalesce(max(n), 0) <= 3 FROM (SELECT count(*) n FROM prompt_cache.user_prompt_cache GROUP BY user_key) c'), 't', 'history is bounded')
        if rand() < 0.05;
} while ($node->safe_psql('chat', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL edit%'}) > 0);
for (@writers) { my (undef, $err) = finish_session($_); is($err, '', 'edits succeed'); }
my $took = time - $began;
my $weight = 'SELECT sum(weight) FROM prompt_cache.tag_nonce';
my $weight_before = $node->safe_psql('chat', $weight);
cmp_ok($weight_before, '>=', $edits, "$edits edits left their nonces");
is(exact($node, 'chat'), '1000 of 1000', 'all prompts are exact');
my $stamps = q{SELECT md5(string_agg(s::text, ',' ORDER BY tag)) FROM (SELECT tag, sum(weight) AS weight, bit_xor(nonce) AS nonce FROM prompt_cache.tag_nonce GROUP BY tag) s};
my $stamps_before = $node->safe_psql('chat', $stamps);
my $hits = q{SELECT string_agg(source || ' ' || n, ', ' ORDER BY source) FROM (SELECT source, count(*) n FROM users u, prompt_cache.get_or_build(u.user_id) GROUP BY 1) s};
is($node->safe_psql('chat', $hits), 'memory 1000', 'and in memory');

sleep $idle;
my ($rows, $tags, $size) = split /\|/, $node->safe_psql('chat', 'SELECT count(*), count(DISTINCT tag), pg_total_relation_size($$prompt_cache.tag_nonce$$) FROM prompt_cache.tag_nonce');
my $fresh = $node->safe_psql('chat', q{CREATE TABLE fresh (LIKE prompt_cache.tag_nonce INCLUDING ALL); INSERT INTO fresh SELECT * FROM prompt_cache.tag_nonce;
    SELECT pg_total_relation_size('fresh')});
my $figures = sprintf('%d edits in %.0f s; %d rows of %d tags, %d bytes, at most %d; a fresh copy has %d', $edits, $took, $rows, $tags, $size, $most, $fresh);
$ENV{FULL} ? diag($figures) : note($figures);
cmp_ok($rows, '<=', $tags + 1000, 'few nonces are left');
cmp_ok($size, '<=', 2 * $fresh, 'in a table not twice as large as it has to be');
is($node->safe_psql('chat', $weight), $weight_before, 'no change is forgotten');
is($node->safe_psql('chat', $stamps), $stamps_before, 'no stamp has changed');
is($node->safe_psql('chat', $hits), 'memory 1000', 'and nothing was emptied');
is($node->safe_psql('chat', 'SELECT max(n) FROM (SELECT count(*) n FROM prompt_cache.user_prompt_cache GROUP BY user_key) c'), '3', 'at most `history` rows a user');
is($node->safe_psql('chat', q{SELECT count(*) FROM users u WHERE NOT EXISTS (SELECT FROM prompt_cache.user_prompt_cache c WHERE c.user_key = u.user_id::text AND c.replaced_at IS NULL AND c.cached_prompt = prompt_cache.build(u.user_id))}), '0', 'the newest says what the user gets');
unlike(slurp_file($node->logfile), qr/deadlock|prompt_cache: housekeeping/, 'no round of housekeeping has failed');

# A small table is no reason to lock it; and one that somebody holds is left as it is until he lets go.
$node->append_conf('postgresql.conf', "prompt_cache.persist_naptime = '1h'");
$node->reload;
sleep 1;
$node->safe_psql('chat', q{CREATE PROCEDURE compact(INOUT tag bigint DEFAULT -9223372036854775807, INOUT salt bigint DEFAULT 0) LANGUAGE plpgsql AS $$
    BEGIN LOOP SELECT * INTO tag, salt FROM prompt_cache._compact_nonces(tag, salt); COMMIT; EXIT WHEN tag IS NULL; END LOOP; END $$;
    CALL edit(100)});
is($node->safe_psql('chat', 'SELECT prompt_cache._nonces_are_bloated()'), 'f', 'after a few edits it is small enough');
is($node->safe_psql('chat', "CALL edit(20000);\nCALL compact();\nSELECT prompt_cache._nonces_are_bloated()"), "|\nt", 'after many it is not');
my $reader = $node->background_psql('chat');
$reader->query_safe('BEGIN; SELECT count(*) FROM prompt_cache.tag_nonce');
is($node->safe_psql('chat', 'SELECT prompt_cache._rewrite_nonces()'), 'f', 'while somebody holds it it is left as it is');
$reader->query_safe('COMMIT');
$reader->quit;
$node->append_conf('postgresql.conf', "prompt_cache.persist_naptime = '50ms'");
$node->reload;
ok($node->poll_query_until('chat', "SELECT pg_total_relation_size('prompt_cache.tag_nonce') < 2 * $fresh"), 'until he lets go');
is(exact($node, 'chat'), '1000 of 1000', 'all prompts are exact');
$node->stop;

done_testing();
