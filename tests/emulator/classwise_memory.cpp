// The class kernels' dynamic shared memory.
namespace fusedloss::cuda {

EMULATOR_DYNAMIC_SHARED(uint4, class_tile_memory);

}  // namespace fusedloss::cuda
