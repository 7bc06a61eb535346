//! The draft's own vectors, and an independent implementation on random inputs.

use data_encoding::HEXLOWER;
use pakery_core::PakeError;
use pakery_core::crypto::{CpaceGroup, Hash};
use pakery_cpace::{CpaceCiphersuite, CpaceInitiator, CpaceMode, CpaceResponder};
use proptest::prelude::*;

use super::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

/// The draft gives reduced scalars; as the low half of 64 random bytes they stay what they are.
fn scalar(text: &str) -> [u8; 64] {
    let mut wide = [0; 64];
    wide[..32].copy_from_slice(&hex::<32>(text));
    wide
}

fn wide() -> impl Strategy<Value = [u8; 64]> {
    prop::collection::vec(any::<u8>(), 64).prop_map(|bytes| bytes.try_into().unwrap())
}

/// draft-irtf-cfrg-cpace-21, appendix B.3.
mod vector {
    pub const PRS: &[u8] = b"Password";
    pub const CI: &[u8] = b"\x0bA_initiator\x0bB_responder";
    pub const SID: &str = "7e4b4791d6a8ef019b936c79fb7f2c57";
    pub const GENERATOR_STRING: &str = concat!(
        "11435061636552697374726574746f3235350850617373776f726464",
        "00000000000000000000000000000000000000000000000000000000",
        "00000000000000000000000000000000000000000000000000000000",
        "00000000000000000000000000000000000000000000000000000000",
        "00000000000000000000000000000000180b415f696e69746961746f",
        "720b425f726573706f6e646572107e4b4791d6a8ef019b936c79fb7f",
        "2c57",
    );
    pub const GENERATOR: &str = "222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56";
    pub const SCALAR_A: &str = "da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08";
    pub const SHARE_A: &str = "d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157";
    pub const SCALAR_B: &str = "d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d";
    pub const SHARE_B: &str = "3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258";
    pub const SECRET_POINT: &str = "80b69a8a76457ab6a4d7f887a4bf6b55a2f80ac19c333f917a05fc9887c8b40f";
    pub const ISK: &str = concat!(
        "b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dcae7b35cd",
        "2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447",
    );
    pub const ANY_SCALAR: &str = "7cd0e075fa7955ba52c02759a6c90dbbfc10e6d40aea8d283e407d88cf538a05";
    pub const ANY_POINT: &str = "2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c";
    pub const THEIR_PRODUCT: &str = "7c13645fe790a468f62c39beb7388e541d8405d1ade69d1778c5fe3e7f6b600e";
    pub const NOT_A_POINT: &str = "2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c";
}

#[test]
fn the_vectors_of_the_draft() {
    use vector::*;
    let sid = hex::<16>(SID);
    let input = Input { password: PRS, channel_id: CI, session_id: &sid, ad_initiator: b"ADa", ad_responder: b"ADb" };

    assert_eq!(HEXLOWER.encode(&generator_string(&input)), GENERATOR_STRING);
    assert_eq!(HEXLOWER.encode(calculate_generator(&input).compress().as_bytes()), GENERATOR);

    let (initiator, share_a) = Initiator::start(&input, &scalar(SCALAR_A));
    let (share_b, key_b) = respond(&input, &share_a, &scalar(SCALAR_B)).unwrap();
    assert_eq!(HEXLOWER.encode(&share_a), SHARE_A);
    assert_eq!(HEXLOWER.encode(&share_b), SHARE_B);
    for (scalar_text, share) in [(SCALAR_A, share_b), (SCALAR_B, share_a)] {
        let point = scalar_mult_vfy(&sample_scalar(&scalar(scalar_text)), &share).unwrap();
        assert_eq!(HEXLOWER.encode(&*point), SECRET_POINT);
    }

    let key_a = initiator.finish(&share_b).unwrap();
    assert_eq!(HEXLOWER.encode(key_a.expose()), ISK);
    assert_eq!(HEXLOWER.encode(key_b.expose()), ISK);
}

#[test]
fn d32_points_that_are_none() {
    use vector::*;
    let any_scalar = sample_scalar(&scalar(ANY_SCALAR));
    assert_eq!(HEXLOWER.encode(&*scalar_mult_vfy(&any_scalar, &hex(ANY_POINT)).unwrap()), THEIR_PRODUCT);

    let input = Input { password: PRS, channel_id: CI, session_id: &[], ad_initiator: &[], ad_responder: &[] };
    for (share, what) in [
        (hex(NOT_A_POINT), "Y_i1 of the draft: not on the curve"),
        ([0; 32], "Y_i2 of the draft: the neutral element"),
        (hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), "p: zero, not reduced"),
        (hex("f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), "p + 6: not reduced"),
        (hex("00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"), "more than 255 bits"),
        (hex("0100000000000000000000000000000000000000000000000000000000000080"), "more than 255 bits"),
        (hex("0100000000000000000000000000000000000000000000000000000000000000"), "a negative field element"),
        ([0xff; 32], "all ones"),
    ] {
        assert_eq!(respond(&input, &share, &scalar(ANY_SCALAR)).err(), Some(InvalidShare), "{what}");
        let (initiator, _) = Initiator::start(&input, &scalar(ANY_SCALAR));
        assert_eq!(initiator.finish(&share).err(), Some(InvalidShare), "{what}");
    }
    // A broken source of randomness must not lead to a key that everybody knows.
    assert_eq!(respond(&input, &hex(ANY_POINT), &[0; 64]).err(), Some(InvalidShare));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Each implementation as initiator against the other as responder. Lengths go beyond one LEB128 byte.
    #[test]
    fn agrees_with_pakery(
        password in prop::collection::vec(any::<u8>(), 0..200),
        ci in prop::collection::vec(any::<u8>(), 0..300),
        sid in prop::collection::vec(any::<u8>(), 0..200),
        ad_a in prop::collection::vec(any::<u8>(), 0..200),
        ad_b in prop::collection::vec(any::<u8>(), 0..40),
        wide_a in wide(), wide_b in wide(),
    ) {
        let input = Input {
            password: &password, channel_id: &ci, session_id: &sid, ad_initiator: &ad_a, ad_responder: &ad_b,
        };
        let mode = CpaceMode::InitiatorResponder;

        let (ours, share_a) = Initiator::start(&input, &wide_a);
        let (share_b, theirs) = CpaceResponder::<Suite>::respond(
            &share_a, &password, &ci, &sid, &ad_a, &ad_b, mode, &mut Fixed(wide_b),
        ).unwrap();
        let ours = ours.finish(&share_b.try_into().unwrap()).unwrap();
        prop_assert_eq!(&ours.expose()[..], theirs.isk.as_bytes());

        let (share_a, theirs) = CpaceInitiator::<Suite>::start(&password, &ci, &sid, &ad_a, &mut Fixed(wide_a)).unwrap();
        let (share_b, ours) = respond(&input, &share_a.try_into().unwrap(), &wide_b).unwrap();
        let theirs = theirs.finish(&share_b, &ad_b, mode).unwrap();
        prop_assert_eq!(&ours.expose()[..], theirs.isk.as_bytes());
    }

    /// Whatever the two ends do not have in common separates their keys.
    #[test]
    fn each_input_counts(which in 0..5_usize, wide_a in wide(), wide_b in wide()) {
        let input = |changed: usize| {
            let at = |i: usize| if i == changed { &b"other"[..] } else { b"same" };
            Input { password: at(0), channel_id: at(1), session_id: at(2), ad_initiator: at(3), ad_responder: at(4) }
        };
        let (initiator, share_a) = Initiator::start(&input(usize::MAX), &wide_a);
        let (share_b, key_b) = respond(&input(which), &share_a, &wide_b).unwrap();
        let key_a = initiator.finish(&share_b).unwrap();
        prop_assert_ne!(key_a.expose(), key_b.expose());
    }
}

/// The group and the hash for pakery-cpace, which brings the protocol and lets its user choose these.
struct Suite;

impl CpaceCiphersuite for Suite {
    type Group = Ristretto;
    type Hash = Sha;
    const DSI: &'static [u8] = b"CPaceRistretto255";
    const HASH_BLOCK_SIZE: usize = 128;
    const FIELD_SIZE_BYTES: usize = 32;
}

#[derive(Clone)]
struct Sha(Sha512);

impl Hash for Sha {
    const OUTPUT_SIZE: usize = 64;

    fn new() -> Self {
        Self(Sha512::new())
    }
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn finalize(self) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

#[derive(Clone, PartialEq)]
struct Ristretto(RistrettoPoint);

impl CpaceGroup for Ristretto {
    type Scalar = Scalar;

    fn scalar_mul(&self, scalar: &Scalar) -> Self {
        Self(self.0 * scalar)
    }
    fn is_identity(&self) -> bool {
        IsIdentity::is_identity(&self.0)
    }
    fn to_bytes(&self) -> Vec<u8> {
        self.0.compress().as_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Result<Self, PakeError> {
        let compressed = CompressedRistretto::from_slice(bytes).map_err(|_| PakeError::InvalidPoint)?;
        compressed.decompress().map(Self).ok_or(PakeError::InvalidPoint)
    }
    fn from_uniform_bytes(bytes: &[u8]) -> Result<Self, PakeError> {
        Ok(Self(RistrettoPoint::from_uniform_bytes(bytes.try_into().unwrap())))
    }
    fn random_scalar(rng: &mut impl rand_core::CryptoRng) -> Scalar {
        let mut wide = [0; 64];
        rng.fill_bytes(&mut wide);
        Scalar::from_bytes_mod_order_wide(&wide)
    }
    fn add(&self, other: &Self) -> Self {
        Self(self.0 + other.0)
    }
    fn negate(&self) -> Self {
        Self(-self.0)
    }
    fn basepoint_mul(scalar: &Scalar) -> Self {
        Self(RistrettoPoint::mul_base(scalar))
    }
    fn scalar_from_wide_bytes(bytes: &[u8]) -> Result<Scalar, PakeError> {
        Ok(Scalar::from_bytes_mod_order_wide(bytes.try_into().unwrap()))
    }
    fn scalar_to_bytes(scalar: &Scalar) -> Vec<u8> {
        scalar.to_bytes().to_vec()
    }
}

/// A source of randomness that says the same 64 bytes each time, so that both sides draw the same scalar.
struct Fixed([u8; 64]);

impl rand_core::TryRng for Fixed {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_le_bytes(self.0[..4].try_into().unwrap()))
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_le_bytes(self.0[..8].try_into().unwrap()))
    }
    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Self::Error> {
        into.copy_from_slice(&self.0[..into.len()]);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Fixed {}
