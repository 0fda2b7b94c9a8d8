-- The chat database of the demo: an ordinary schema that knows nothing of the cache.
CREATE TABLE tenants (
    id            bigint PRIMARY KEY,
    name          text NOT NULL,
    system_prompt text
);

CREATE TABLE users (
    user_id       bigint PRIMARY KEY,
    tenant_id     bigint REFERENCES tenants (id),
    name          text NOT NULL,
    system_prompt text,
    last_login    timestamptz
);

CREATE TABLE messages (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    bigint NOT NULL REFERENCES users (user_id),
    role       text NOT NULL,
    content    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON messages (user_id, id);

CREATE TABLE prompt_library (title text, prompt text);
