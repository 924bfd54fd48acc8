-- Sessions that once spoke for an agent (JSON, newest last), and where an agent is that a server speaks for (JSON).
ALTER TABLE agent ADD COLUMN former_sessions TEXT NOT NULL DEFAULT '[]';
ALTER TABLE agent ADD COLUMN peer TEXT;
