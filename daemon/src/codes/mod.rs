//! Sharing codes (seed 002): devices become members of a resource without anybody at the issuer's keyboard.
