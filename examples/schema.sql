-- The tables of worker_pool.c and worker_pool.py: a hundred accounts, and one row for each transfer.
CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE ledger (unit bigint PRIMARY KEY, amount bigint NOT NULL);
INSERT INTO accounts SELECT id, 1000 FROM generate_series(0, 99) AS id;
