# Who floods the memory, a namespace or the prompts, pushes nobody below his fair share; what nobody uses lies open to all. And the accounts
# of bytes agree all the while.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('share', "autovacuum = off\nprompt_cache.memory_size = '8MB'\nprompt_cache.slots = 4096\n", install_path => $ENV{PROMPT_CACHE_TEST_BUILD});
load_chat($node, 'chat');
sub sql { return $node->safe_psql('chat', shift); }
sql(q{CREATE FUNCTION consistent() RETURNS boolean LANGUAGE c AS '$libdir/prompt_cache', 'pc_consistent';
    CREATE FUNCTION filler(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT repeat(md5(key), 60) $$;
    INSERT INTO users SELECT u, 1 + u % 5, filler(u::text) FROM generate_series(61, 8000) u;
    SELECT prompt_cache.create_namespace(n, 'filler(text)', '0') FROM unnest('{quiet,busy,flood}'::text[]) n});

sub bytes_of { return sql("SELECT bytes FROM prompt_cache.stats WHERE namespace = '$_[0]'"); }
# Whoever is asked for stays if he may: "hits of so many".
sub ask { my ($name, $from, $to) = @_; return sql("SELECT count(*) FILTER (WHERE source = 'memory') || ' of ' || count(*) FROM prompt_cache.fetch_many('$name', ARRAY(SELECT i::text FROM generate_series($from, $to) i))"); }
sub flood { my ($name) = @_; return ask($name, 1, 8000); }
sub flood_prompts { return sql('SELECT count(prompt_cache.prompt(user_id)) FROM users'); }
sub accounts
{
    my ($when) = @_;
    is(sql('SELECT consistent()'), 't', "$when: all accounts agree");
    is(sql(q{SELECT sum(bytes) = min(m) FROM prompt_cache.stats, CAST(prompt_cache.health() #>> '{tiers,memory,bytes}' AS bigint) m}), 't', "$when: what the namespaces have is what is used");
    # Beside the prompts lies what the extension remembers for itself.
    is(sql(q{SELECT string_agg(format('%s: %s %s, %s %s', namespace, s.entries, s.bytes, e.entries, e.bytes), '; ')
               FROM prompt_cache.stats s CROSS JOIN LATERAL (SELECT count(*) AS entries, coalesce(sum(l.bytes), 0) AS bytes FROM prompt_cache.entries l WHERE l.namespace = s.namespace) e
              WHERE s.entries <> e.entries OR s.bytes NOT BETWEEN e.bytes AND e.bytes + CASE s.namespace WHEN 'prompt' THEN 4096 ELSE 0 END}), '', "$when: and what its entries have, one by one");
    return;
}

my $room = sql(q{SELECT (t ->> 'size')::bigint - (t ->> 'fixed')::bigint FROM CAST(prompt_cache.health() #> '{tiers,memory}' AS jsonb) t});
note("room for entries: $room");

# Alone it may have everything.
flood('flood');
cmp_ok(bytes_of('flood'), '>', 0.9 * $room, 'a namespace that is alone has all the memory');
accounts('alone');

# Who has nothing yet gets room for something large: it is others who give way.
sql(q{CREATE FUNCTION large(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT repeat(md5(key), 20000) $$;
    SELECT prompt_cache.create_namespace('large', 'large(text)', '0');
    SELECT prompt_cache.fetch('large', 'one')});
is(ask('large', 1, 1), '0 of 1', 'something large is built');
is(ask('large', 1, 1), '1 of 1', 'and stays, though the memory was full of what others have');
sql(q{UPDATE users SET system_prompt = repeat('large ', 100000) WHERE user_id = 61; SELECT prompt_cache.prompt(61)});
is(source_of($node, 'chat', 61), 'memory', 'so does a large prompt');
accounts('something large');
sql(q{SELECT prompt_cache.drop_namespace('large'); UPDATE users SET system_prompt = 'small' WHERE user_id = 61});

# A second one that wants little gets it, and keeps it.
my $few = int($room / 6 / 2200);
ask('quiet', 1, $few);
is(ask('quiet', 1, $few), "$few of $few", "one that wants a sixth gets it ($few entries)");
my $bytes = bytes_of('quiet');
flood('flood') for 1 .. 3;
is(bytes_of('quiet'), $bytes, 'and keeps it while another one floods the memory');
is(ask('quiet', 1, $few), "$few of $few", 'all its entries are hits');
flood_prompts() for 1 .. 2;
is(bytes_of('quiet'), $bytes, 'nor do prompts push it out');
cmp_ok(bytes_of('flood'), '>', 0.9 * $room / 3, 'nor the other one below a third');
cmp_ok(bytes_of('prompt'), '>', 0.9 * $room / 3, 'and they have theirs');
accounts('three share');

# A fourth one that floods too gets as much as the others.
flood('busy');
for my $round (1 .. 2) { flood('flood'); flood_prompts(); flood('busy'); }
is(ask('quiet', 1, $few), "$few of $few", 'one that wants less than a quarter keeps it, whoever floods');
cmp_ok(bytes_of($_), '>', 0.9 * $room / 4, "$_ has a quarter") for qw(flood busy prompt);
accounts('four share');

# All at once
my $every = 'SELECT count(*) FROM generate_series(1, 4) r, prompt_cache.fetch_many(%s, ARRAY(SELECT i::text FROM generate_series(1, 4000) i));';
my @sessions = map { start_session($node, 'chat', $_) } (map { sprintf $every, "'$_'" } qw(flood busy flood busy)),
  'SELECT count(prompt_cache.prompt(user_id)) FROM users; SELECT count(prompt_cache.prompt(user_id)) FROM users',
  join("\n", ("SELECT count(*) FILTER (WHERE source <> 'memory') FROM prompt_cache.fetch_many('quiet', ARRAY(SELECT i::text FROM generate_series(1, $few) i)); SELECT pg_sleep(0.01);") x 50);
my @answers = map { [ finish_session($_) ] } @sessions;
is(join('', map { $_->[1] } @answers), '', 'all at once: no errors');
unlike($answers[-1][0], qr/^[1-9]/m, 'and each look at the quiet one is a hit');
accounts('all at once');

# Given back
sql(q{SELECT prompt_cache.drop_namespace('flood'), prompt_cache.drop_namespace('busy')});
accounts('two are dropped');
is(sql(q{SELECT count(*) FROM prompt_cache.stats WHERE namespace IN ('flood', 'busy')}), 0, 'they are gone');
flood_prompts();
cmp_ok(bytes_of('prompt'), '>', 0.7 * $room, 'prompts have what they had');
is(bytes_of('quiet'), $bytes, 'but not what another one has');
accounts('at the end');
$node->stop;

done_testing();
