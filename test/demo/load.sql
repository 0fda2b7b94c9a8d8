-- Fills the chat database from prompt_library: every prompt is used, the same users on every run.
-- One user in ten has no prompt, one in twenty an empty one; one tenant has none either.
CREATE TEMP TABLE library AS
SELECT row_number() OVER () - 1 AS n, title, prompt, count(*) OVER () AS total FROM prompt_library;

INSERT INTO tenants (id, name, system_prompt)
SELECT t, 'Tenant ' || t || ': ' || l.title, CASE WHEN t <> 12 THEN l.prompt END
FROM generate_series(1, 12) t JOIN library l ON l.n = (t * 5) % l.total;

INSERT INTO users (user_id, tenant_id, name, system_prompt, last_login)
SELECT u, CASE WHEN u % 100 <> 0 THEN 1 + u % 12 END, 'User ' || u,
       CASE WHEN u % 10 = 9 THEN NULL WHEN u % 20 = 7 THEN '' ELSE l.prompt END,
       now() - make_interval(mins => u)
FROM generate_series(1, 3000) u JOIN library l ON l.n = u % l.total;

INSERT INTO messages (user_id, role, content)
SELECT u.user_id, r.role, r.role || ' message of ' || u.name
FROM users u, (VALUES ('user'), ('assistant')) r (role);

ANALYZE;
