// The overlap kernels' dynamic shared memory.
namespace fusedloss::cuda {

EMULATOR_DYNAMIC_SHARED(float, overlap_tile);

}  // namespace fusedloss::cuda
