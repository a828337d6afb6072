//! Black-box tests of keeper, queen and hive as a user meets them. One binary: it links once.
