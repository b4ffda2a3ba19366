-- The directions of a move are called 'forward' and 'reverse'. Moves whose plan has a format before 2 say 'out' and
-- 'back', in their gates, markers and publications; one that is under way goes on with these words to its end.
--
-- Runnable in psql.
ALTER TABLE tenantry.move_gate DROP CONSTRAINT move_gate_direction_check;
ALTER TABLE tenantry.move_gate ADD CONSTRAINT move_gate_direction_check
    CHECK (direction IN ('forward', 'reverse', 'out', 'back'));
ALTER TABLE tenantry.move_marker DROP CONSTRAINT move_marker_direction_check;
ALTER TABLE tenantry.move_marker ADD CONSTRAINT move_marker_direction_check
    CHECK (direction IN ('forward', 'reverse', 'out', 'back'));
