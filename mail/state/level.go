package state

// FeatureLevel is the newest level that this program knows. Operations and formats above a
// state's level are not used, so that two nodes of different versions understand each other;
// the level is raised by RaiseLevel once both run the new program.
const FeatureLevel = 1 + nextLevel
