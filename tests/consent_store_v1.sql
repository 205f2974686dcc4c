-- The consent store as version 1 made it. It never changes: stores of this version are out there.
CREATE TABLE meta (
 "key" VARCHAR(40) NOT NULL,
 value TEXT NOT NULL,
 PRIMARY KEY ("key")
);
CREATE TABLE person (
 no INTEGER NOT NULL,
 "key" BLOB NOT NULL,
 principal TEXT,
 PRIMARY KEY (no),
 UNIQUE ("key")
);
CREATE TABLE terms (
 hash VARCHAR(32) NOT NULL,
 fields TEXT NOT NULL,
 PRIMARY KEY (hash)
);
CREATE TABLE tree (
 run VARCHAR(32) NOT NULL,
 depth INTEGER NOT NULL,
 seed BLOB NOT NULL,
 root VARCHAR(64) NOT NULL,
 moment BIGINT NOT NULL,
 PRIMARY KEY (run)
);
CREATE TABLE export (
 id INTEGER NOT NULL,
 recipient TEXT NOT NULL,
 what TEXT NOT NULL,
 exported_at BIGINT NOT NULL,
 PRIMARY KEY (id)
);
CREATE TABLE disposal (
 id INTEGER NOT NULL,
 disposed_at BIGINT NOT NULL,
 persons INTEGER NOT NULL,
 events INTEGER NOT NULL,
 cause TEXT NOT NULL,
 keep_until BIGINT NOT NULL,
 PRIMARY KEY (id)
);
CREATE TABLE event (
 id INTEGER NOT NULL,
 person INTEGER NOT NULL,
 digest BLOB NOT NULL,
 recorded_at BIGINT NOT NULL,
 record_id TEXT NOT NULL,
 purpose TEXT NOT NULL,
 type SMALLINT NOT NULL,
 time BIGINT NOT NULL,
 "offset" INTEGER NOT NULL,
 basis TEXT NOT NULL,
 event_id TEXT,
 state TEXT,
 validity_duration TEXT,
 valid_until BIGINT NOT NULL,
 entity_id TEXT,
 notice_hash TEXT,
 consent_text_hash TEXT,
 notice_shown_at BIGINT,
 channel TEXT,
 iys_channel TEXT,
 iys_status TEXT,
 iys_checked_at BIGINT,
 profiling BOOLEAN,
 adult_from BIGINT,
 special BOOLEAN NOT NULL,
 special_ground TEXT,
 terms VARCHAR(32) NOT NULL,
 PRIMARY KEY (id),
 FOREIGN KEY(person) REFERENCES person (no),
 UNIQUE (digest),
 FOREIGN KEY(terms) REFERENCES terms (hash)
);
CREATE INDEX ix_event_person ON event (person);
CREATE INDEX event_by_action ON event (event_id);
CREATE TABLE leaf (
 run VARCHAR(32) NOT NULL,
 position BIGINT NOT NULL,
 leaf BLOB NOT NULL,
 person INTEGER,
 salt BLOB,
 decision TEXT,
 digest VARCHAR(64),
 PRIMARY KEY (run, position),
 FOREIGN KEY(run) REFERENCES tree (run),
 FOREIGN KEY(person) REFERENCES person (no)
);
CREATE INDEX ix_leaf_person ON leaf (person);
CREATE TABLE rights_request (
 id INTEGER NOT NULL,
 kind TEXT NOT NULL,
 person INTEGER,
 note TEXT NOT NULL,
 opened_at BIGINT NOT NULL,
 due_at BIGINT NOT NULL,
 closed_at BIGINT,
 outcome TEXT,
 PRIMARY KEY (id),
 FOREIGN KEY(person) REFERENCES person (no)
);
CREATE INDEX ix_rights_request_person ON rights_request (person);
CREATE TABLE export_person (
 export INTEGER NOT NULL,
 person INTEGER NOT NULL,
 PRIMARY KEY (export, person),
 FOREIGN KEY(export) REFERENCES export (id),
 FOREIGN KEY(person) REFERENCES person (no)
);
CREATE INDEX ix_export_person_person ON export_person (person);
CREATE TABLE export_notice (
 id INTEGER NOT NULL,
 export INTEGER NOT NULL,
 request INTEGER NOT NULL,
 kind TEXT NOT NULL,
 made_at BIGINT NOT NULL,
 acknowledged_at BIGINT,
 PRIMARY KEY (id),
 FOREIGN KEY(export) REFERENCES export (id),
 FOREIGN KEY(request) REFERENCES rights_request (id)
);
INSERT INTO meta VALUES ('schema', '1'), ('id', '00112233445566778899aabbccddeeff'),
 ('pseudonyms', '0000000000000000000000000000000000000000000000000000000000000000'),
 ('removals', '0011223344556677');
INSERT INTO rights_request (id, kind, note, opened_at, due_at, closed_at, outcome) VALUES
 (1, 'breach', 'laptop', 1000000, 259201000000, 2000000, 'done'),
 (2, 'breach', 'false alarm', 1000000, 259201000000, 2000000, 'rejected'),
 (3, 'breach', 'letter', 1000000, 259201000000, NULL, NULL),
 (4, 'iys-transfer', '', 1000000, 259201000000, NULL, NULL);
