-- Databases of other encodings: the bytes are those of the columns. A database cloned from another shares nothing with it.
SET client_min_messages = warning;
SELECT current_database() AS home \gset
CREATE DATABASE regress_pc_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE regress_pc_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;

\c regress_pc_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION prompt_cache;
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id text PRIMARY KEY, tenant_id bigint, system_prompt text);
INSERT INTO tenants VALUES (2, 'Größe'), (3, repeat('ß', 9000));
INSERT INTO users VALUES ('jürgen', 2, E'caf\u00e9 \u00ff'), ('chr', 3, chr(160) || chr(255) || chr(128));
SELECT prompt_cache.attach();
SELECT prompt_cache.set_application_prompt('¡Hola!');
CREATE VIEW compared AS
SELECT u.user_id, g.source, g.prompt = e.prompt AS exact, octet_length(g.prompt) = octet_length(e.prompt) AS octets
  FROM users u JOIN tenants t ON t.id = u.tenant_id, prompt_cache.get_or_build_key(u.user_id) g,
       LATERAL (SELECT '¡Hola!' || E'\n\n--- Tenant Guidelines ---\n' || t.system_prompt || E'\n\n--- User Preferences ---\n' || u.system_prompt AS prompt) e
 ORDER BY 1;
SELECT * FROM compared;
SELECT * FROM compared;
SELECT prompt_cache.prompt_key('jürgen');
SELECT prompt_cache.prompt_key('юрген');
SELECT prompt_cache.flush();
SET prompt_cache.memory = off;
SELECT * FROM compared;
RESET prompt_cache.memory;
UPDATE users SET system_prompt = 'où' WHERE user_id = 'jürgen';
SELECT * FROM compared;

\c regress_pc_ascii
CREATE EXTENSION prompt_cache;
CREATE TABLE tenants (id bigint PRIMARY KEY, system_prompt text);
CREATE TABLE users (user_id text PRIMARY KEY, tenant_id bigint, system_prompt text);
-- Bytes that are text in no encoding at once.
INSERT INTO users VALUES (E'k\xff', NULL, E'\xff\xfe\x80 raw'), ('utf8', NULL, 'ünï');
SELECT prompt_cache.attach();
SELECT g.source, encode(convert_to(right(g.prompt, 7), 'SQL_ASCII'), 'hex') AS ends, g.prompt = prompt_cache.build_key(u.user_id) AS exact
  FROM users u, prompt_cache.get_or_build_key(u.user_id) g WHERE u.user_id <> 'utf8';
SELECT g.source, encode(convert_to(right(g.prompt, 7), 'SQL_ASCII'), 'hex') AS ends, g.prompt = prompt_cache.build_key(u.user_id) AS exact
  FROM users u, prompt_cache.get_or_build_key(u.user_id) g;
SELECT prompt_cache.flush();
SET prompt_cache.memory = off;
SELECT count(*) FILTER (WHERE g.source = 'database') AS database, bool_and(g.prompt = prompt_cache.build_key(u.user_id)) AS exact
  FROM users u, prompt_cache.get_or_build_key(u.user_id) g;
RESET prompt_cache.memory;

-- The clone has the same tables, wiring and rows of the cache; from here on each has its own.
\c :home
CREATE DATABASE regress_pc_clone TEMPLATE regress_pc_ascii;
\c regress_pc_clone
SELECT count(*) AS in_memory FROM prompt_cache.entries;
UPDATE users SET system_prompt = 'clone' WHERE user_id = 'utf8';
SELECT right(g.prompt, 5) AS ends, g.source FROM prompt_cache.get_or_build_key('utf8') g;
SELECT right(g.prompt, 5) AS ends, g.source FROM prompt_cache.get_or_build_key('utf8') g;
SELECT prompt_cache.clear() > 0 AS cleared;
\c regress_pc_ascii
SELECT octet_length(prompt_cache.prompt_key('utf8')) AS octets, source FROM prompt_cache.get_or_build_key('utf8');
UPDATE users SET system_prompt = 'original' WHERE user_id = 'utf8';
\c regress_pc_clone
SELECT right(g.prompt, 5) AS ends, g.source FROM prompt_cache.get_or_build_key('utf8') g;
SELECT right(g.prompt, 5) AS ends, g.source FROM prompt_cache.get_or_build_key('utf8') g;

-- A database that is dropped and made anew under its name knows nothing of the old one.
\c :home
DROP DATABASE regress_pc_clone;
CREATE DATABASE regress_pc_clone TEMPLATE template0;
\c regress_pc_clone
SELECT prompt_cache.prompt(1);
CREATE EXTENSION prompt_cache;
SELECT count(*) FROM prompt_cache.entries;
SELECT prompt_cache.prompt(1);
\c :home
DROP DATABASE regress_pc_clone;
DROP DATABASE regress_pc_latin1;
DROP DATABASE regress_pc_ascii;
