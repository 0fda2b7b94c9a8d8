# Keys that somebody has chosen so that all of them fall into one bucket, by a hash without a secret: with the secret they are
# keys like any others, and without it a chain has a bound. The keys are ids of users that do not exist.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $count = 3000;

# src/cache/memory.cpp hashes all but the last three digits, and adds those. So of the numbers with one beginning one in
# 2^16 / 1000 has these low bits.
sub choose_keys
{
    my ($node) = @_;
    $node->safe_psql('chat', qq{CREATE TABLE chosen AS
        SELECT beginning * 1000 + number AS id FROM (
            SELECT beginning, (4711 - (a # ((d.oid::bigint + x'a8e3'::bigint + ((a >> 7) & 65535)) & 65535))) & 65535 AS number
              FROM generate_series(1000, 1000000) beginning, hashtextextended(beginning::text, (1000::bigint << 48) + 3) a, pg_database d
             WHERE d.datname = current_database()) n
         WHERE number < 1000 LIMIT $count});
    is($node->safe_psql('chat', 'SELECT count(DISTINCT id) FROM chosen'), $count, "$count keys are chosen");
    return;
}

sub start
{
    my ($name, @more) = @_;
    my $node = new_server($name, join("\n", 'autovacuum = off', "prompt_cache.memory_size = '8MB'", 'prompt_cache.slots = 4096', @more, ''),
        install_path => $ENV{PROMPT_CACHE_TEST_BUILD});
    load_chat($node, 'chat');
    choose_keys($node);
    $node->safe_psql('chat', 'SELECT count(prompt_cache.prompt(id)) FROM chosen');
    return $node;
}

sub hits { my ($node) = @_; return $node->safe_psql('chat', q{SELECT count(*) FROM chosen, prompt_cache.get_or_build(id) g WHERE g.source = 'memory' AND g.prompt IS NULL}); }

sub longest_chain
{
    my ($node) = @_;
    return $node->safe_psql('chat', q{CREATE FUNCTION pg_temp.longest_chain() RETURNS integer LANGUAGE c AS '$libdir/prompt_cache', 'pc_longest_chain';
        SELECT pg_temp.longest_chain()});
}

sub is_consistent
{
    my ($node) = @_;
    return $node->safe_psql('chat', q{CREATE FUNCTION pg_temp.consistent() RETURNS boolean LANGUAGE c AS '$libdir/prompt_cache', 'pc_consistent';
        SELECT pg_temp.consistent()});
}

my $node = start('secret');
is(hits($node), $count, 'all of them are in memory');
cmp_ok(longest_chain($node), '<=', 24, 'and their chains are short');
is(exact($node, 'chat'), '60 of 60', 'prompts are exact');
$node->stop;

# Control: the keys are chosen well.
$node = start('known', 'prompt_cache.hash_secret = 0');
is(longest_chain($node), 64, 'with a secret that is known they fill one chain, which has a bound');
cmp_ok(hits($node), '<=', 64, 'so that most are not in memory');
is(is_consistent($node), 't', 'all accounts agree');
is(exact($node, 'chat'), '60 of 60', 'prompts are exact');
is($node->safe_psql('chat', 'SELECT count(*) FROM chosen, prompt_cache.get_or_build(id) g WHERE g.prompt IS NOT NULL'), '0', 'as are the chosen keys');
$node->stop;
done_testing();
